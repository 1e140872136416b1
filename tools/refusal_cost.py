"""CPU time that a refused chat costs the API process.

    python -m tools.refusal_cost [--connections 64,128] [--refusals 4000] [--rounds 5]

Serves the mock engine with one slot, which a long answer holds, so that the gate foresees a wait
for every other chat and refuses it. Sends these in a closed loop, whose clients come back at once;
no refusal is held back. Prints the median of the rounds in microseconds a refusal, for each number
of connections. It is the CPU time of the API process alone, which other work on the machine hardly
changes.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from loadtests.peers import MODEL, MODEL_FOLDER, ours
from loadtests.processes import unwind_on_sigterm
from tools.command_line import command_line
from tools.frontend.cases import Ask
from tools.frontend.client import Load, run
from tools.frontend.measure import Side

_GATE = {"max_wait_ms": 0, "refusals_at_once_per_s": 1_000_000}
_PATIENT = 600_000
_TEXT = "Tell me a story about a dog and a cat who live in a house by the sea."
_CHAT = Ask(
    "/v1/chat/completions",
    {"model": MODEL, "messages": [{"role": "user", "content": _TEXT}], "max_tokens": 32},
)


def _answered(tokens: int, **fields: Any) -> Ask:
    """A request that waits for its turn, because it states a deadline."""
    body = {"model": MODEL, "prompt": _TEXT, "max_tokens": tokens, "timeout_ms": _PATIENT}
    return Ask("/v1/generate", body | fields)


@contextmanager
def _full(model: Path) -> Iterator[Side]:
    """The service while its only slot is taken, after enough answers to foresee waits."""
    with tempfile.TemporaryDirectory() as name:
        rate = Path(name) / "rate"
        rate.touch()
        through = ["tools.mock_engine", f"--rate={rate}"]
        with ours(model, through=through, engine={"max_num_seqs": 1}, gate=_GATE) as server:
            side = Side("this service", server, rate)
            run(Load(side.port, _answered(32).request(""), 8, 16, streamed=False))
            rate.write_text("1")
            long = _answered(2000, stream=True)
            url = f"{server.url}{long.path}"
            with httpx.stream("POST", url, json=long.body, timeout=None) as answer:
                answer.raise_for_status()
                parts = answer.iter_bytes()  # the connection closes when nothing holds these
                next(parts)
                yield side


def measure(side: Side, connections: int, refusals: int) -> float:
    """Microseconds of CPU for each of so many refusals; RuntimeError for another answer."""
    each = refusals // connections
    load = Load(side.port, _CHAT.request(""), connections, each, streamed=False, status=503)
    before = side.cpu_seconds()
    run(load)
    return (side.cpu_seconds() - before) / (connections * each) * 1e6


def main() -> None:
    """Measure in turns and print a line for each number of connections."""
    asked = _parser().parse_args()
    unwind_on_sigterm()
    with _full(asked.model) as side:
        measure(side, max(asked.connections), asked.refusals)  # to warm up
        rounds = [
            [measure(side, each, asked.refusals) for each in asked.connections]
            for _ in range(asked.rounds)
        ]
    for connections, found in zip(asked.connections, zip(*rounds, strict=True), strict=True):
        print(
            f"{connections} connections: {statistics.median(found):.0f} us a refusal "
            f"({min(found):.0f} to {max(found):.0f})"
        )


def _numbers(value: str) -> Sequence[int]:
    return [int(each) for each in value.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.refusal_cost", __doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder")
    parser.add_argument("--connections", type=_numbers, default=[64, 128], help="default 64,128")
    parser.add_argument("--refusals", type=int, default=4000, help="refusals of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each number")
    return parser


if __name__ == "__main__":
    main()
