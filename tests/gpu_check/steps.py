"""Steps that are taken one after the other, each with a time limit, until one fails."""

import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

Findings = Mapping[str, object]


@dataclass(frozen=True)
class Step:
    """One step: its name, its limit in seconds, and its work, which returns what it found.

    The work raises where it fails.
    """

    name: str
    seconds: float
    work: Callable[[], Findings]


@dataclass
class Taken:
    """A step that was taken; `failure` is empty if it succeeded."""

    name: str
    seconds: float
    findings: dict[str, object] = field(default_factory=dict)
    failure: str = ""


def take(steps: Sequence[Step], folder: Path) -> list[Taken]:
    """Take the steps until one fails; report.md and report.json in the folder hold each of them.

    Run it in the main thread: a signal ends a step at its limit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: list[Taken] = []
    for step in steps:
        print(f"==> {step.name}, at most {step.seconds:g} s", flush=True)
        taken.append(_take(step))
        _write(taken, [each.name for each in steps[len(taken) :]], folder)
        print(_line(taken[-1]), flush=True)
        if taken[-1].failure:
            break
    return taken


def _take(step: Step) -> Taken:
    began = time.monotonic()
    taken = Taken(step.name, 0.0)
    try:
        with _limit(step.seconds):
            taken.findings = dict(step.work())
    except Exception as error:
        taken.failure = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    taken.seconds = round(time.monotonic() - began, 1)
    return taken


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _line(taken: Taken) -> str:
    return f"    {'failed' if taken.failure else 'ok'} after {taken.seconds:g} s"


def _write(taken: Sequence[Taken], left: Sequence[str], folder: Path) -> None:
    document = {"steps": [asdict(each) for each in taken], "not_taken": list(left)}
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = ["# GPU check", ""]
    for each in taken:
        lines += [f"## {each.name}: {'FAILED' if each.failure else 'ok'}, {each.seconds:g} s", ""]
        lines += [f"- {name}: {value}" for name, value in each.findings.items()]
        lines += ["", "```", each.failure, "```"] if each.failure else []
        lines.append("")
    if left:
        lines += [f"Not taken: {', '.join(left)}.", ""]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
