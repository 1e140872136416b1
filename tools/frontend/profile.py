"""Profiles of the API processes under load, by py-spy."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.frontend.cases import Case
from tools.frontend.measure import Side, measure
from tools.frontend.report import table

_SAMPLES_PER_SECOND = 200
_MOST_ROWS = 40
_LINE = re.compile(r":\d+\)$")


def profile(case: Case, sides: Sequence[Side], folder: Path) -> None:
    """Sample each server's API process while it has the load of a case, for as long as that lasts.

    Writes `<case>-<server>.folded`, the stacks that flame graphs are drawn from, and `.md`, the
    functions that took the most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for side in sides:
        name = f"{case.name}-{case.streams}-{side.name}".replace(" ", "_").replace(",", "")
        stacks = folder / f"{name}.folded"
        sampler = subprocess.Popen(
            [
                _program(),
                *("record", "--format", "raw", "--rate", str(_SAMPLES_PER_SECOND)),
                "--gil",  # threads that wait for work look busy otherwise
                *("--duration", "3600", "--output", str(stacks)),
                *("--pid", str(side.server.process.pid)),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            measure(side, case, case.theirs if side is sides[-1] else case.ours)
        finally:
            sampler.send_signal(2)  # as Ctrl-C, at which py-spy writes its samples
            sampler.wait(60)
        (folder / f"{name}.md").write_text(most(stacks.read_text().splitlines()) + "\n")
        print(f"profile: {stacks}", file=sys.stderr)


def _program() -> str:
    """py-spy of this environment, or else of the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("py-spy is not installed; it is in requirements/dev.txt")
    return found


def most(stacks: Iterable[str]) -> str:
    """A table of the functions by their share of the samples, without and with what they call.

    A line of `stacks` has frames from the outermost, between semicolons, and a count.
    """
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        names = [_LINE.sub(")", frame) for frame in frames.split(";")]
        own[names[-1]] += int(count)
        for name in set(names):
            within[name] += int(count)
    whole = own.total() or 1
    rows = [
        (name.replace("|", "\\|"), f"{count / whole:.1%}", f"{within[name] / whole:.1%}")
        for name, count in own.most_common(_MOST_ROWS)
    ]
    return table(("function", "itself", "with what it calls"), rows)
