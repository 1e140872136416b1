"""The files and functions of the service that one request passes, in the order of their first call.

    python -m tools.walk chat|classify|refusal|adapter [--json]

Serves the fake engine in this process, sends the request once so that nothing lazy is left, then
again, and shows what ran between its first byte and the end of its answer, with the first lines of
docstrings. Several requests are recorded, and only what all of them run is shown, to leave out
unrelated work.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tools.command_line import command_line
from tools.walk.recording import File, Recorder, files
from tools.walk.serving import ADAPTER, MODEL, Serving

_TIMES = 3
_FULL = {"max_in_flight": 1, "min_in_flight": 1, "max_queued": 0, "max_wait_ms": 600_000}


@dataclass(frozen=True)
class Walk:
    """A request to follow and the status that it is answered with.

    `full` sends it while another one has the only slot.
    """

    path: str
    body: Mapping[str, Any]
    status: int = 200
    admission: Mapping[str, int] = field(default_factory=dict)
    full: bool = False
    adapted: bool = False


_LABELS = ["good", "bad", "so so"]
_STREAM = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": 8,
    "stream": True,
}
_CHAT = "/v1/chat/completions"
WALKS = {
    "chat": Walk(_CHAT, {"model": MODEL, **_STREAM}),
    "classify": Walk(
        "/v1/classify", {"model": MODEL, "input": "It works.", "candidate_labels": _LABELS}
    ),
    "refusal": Walk(_CHAT, {"model": MODEL, **_STREAM}, 503, _FULL, full=True),
    "adapter": Walk(_CHAT, {"model": ADAPTER, **_STREAM}, adapted=True),
}


def walk(name: str) -> list[File]:
    """What the request passes; RuntimeError for an answer that was not expected."""
    recorder = Recorder()
    with (
        tempfile.TemporaryDirectory() as folder,
        recorder.installed(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_walk(WALKS[name], recorder, Path(folder)))


async def _walk(wanted: Walk, recorder: Recorder, folder: Path) -> list[File]:
    serving = Serving(folder, wanted.admission, adapted=wanted.adapted)
    async with serving.running(), asyncio.TaskGroup() as group:
        if wanted.full:
            serving.engine.held = True
            group.create_task(serving.ask(wanted.path, wanted.body))
            await asyncio.sleep(0.2)
        await _ask(serving, wanted)
        runs = []
        for _ in range(_TIMES):
            with recorder.recording() as ran:
                await _ask(serving, wanted)
            runs.append(ran)
        serving.engine.held = False
    return files([code for code in runs[0] if all(code in run for run in runs)])


async def _ask(serving: Serving, wanted: Walk) -> None:
    answer = await serving.ask(wanted.path, wanted.body)
    if answer.status != wanted.status:
        raise RuntimeError(f"{wanted.path}: answered {answer.status}: {answer.body.decode()}")


def _shown(found: Sequence[File]) -> str:
    lines = []
    for file in found:
        lines.append(f"{file.path}  {file.doc}")
        lines += [f"    {each.name}  {each.doc}".rstrip() for each in file.functions]
    functions = sum(len(file.functions) for file in found)
    return "\n".join([*lines, f"{len(found)} files, {functions} functions"])


def main() -> None:
    """Print what the request passed."""
    asked = _parser().parse_args()
    found = walk(asked.request)
    if asked.json:
        print(json.dumps([asdict(file) for file in found], indent=2))
    else:
        print(_shown(found))


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.walk", __doc__)
    parser.add_argument("request", choices=[*WALKS], help="the request to follow")
    parser.add_argument("--json", action="store_true", help="print a list")
    return parser


if __name__ == "__main__":
    main()
