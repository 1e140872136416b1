"""The command line of the front ends' benchmark."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.peers import MODEL_FOLDER
from loadtests.processes import unwind_on_sigterm
from tools.command_line import command_line
from tools.frontend import __doc__ as description
from tools.frontend.cases import KINDS, Case, cases
from tools.frontend.measure import Figures, Side, measure
from tools.frontend.profile import profile
from tools.frontend.report import Rounds, as_json, batched, markdown
from tools.frontend.servers import rust_front_end, servers

_LEVELS = "8,32,256,1024"


def main() -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args()
    unwind_on_sigterm()
    saturated = not options.without_saturation
    chosen = list(
        cases(options.levels, options.rate, options.tokens, options.kinds, saturated=saturated)
    )
    with servers(options.model, options.clients, pinned=not options.unpinned) as sides:
        results = _rounds(chosen, sides, options.rounds)
        if options.profile:
            for case in chosen:
                profile(case, sides, options.out)
    facts = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "rate": options.rate,
        "pinned": not options.unpinned,
        "vllm_rust_front_end": str(rust_front_end() or "not in this wheel"),
    }
    told = "\n".join(filter(None, (markdown(results), batched(results))))
    print(told)
    print("\n" + "; ".join(f"{name}: {value}" for name, value in facts.items()))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "frontend.json").write_text(as_json(results, facts))
    (options.out / "frontend.md").write_text(told + "\n")


def _rounds(
    chosen: Sequence[Case], sides: Sequence[Side], rounds: int
) -> list[tuple[Case, Rounds]]:
    found: list[dict[str, list[Figures]]] = [{side.name: [] for side in sides} for _ in chosen]
    for serial in range(-1, rounds):  # the first is to warm up
        for case, results in zip(chosen, found, strict=True):
            for side in sides if serial % 2 else reversed(sides):
                ask = case.theirs if side is sides[-1] else case.ours
                figures = measure(side, case if serial >= 0 else case.short(), ask)
                if serial >= 0:
                    results[side.name].append(figures)
                    print(
                        f"{serial + 1}/{rounds} {case.name} {case.streams} {side.name}: {figures}",
                        file=sys.stderr,
                        flush=True,
                    )
    return list(zip(chosen, found, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.frontend", description)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every case")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of an answer")
    parser.add_argument("--rate", type=float, default=30, help="tokens/s of a stream")
    parser.add_argument(
        "--levels",
        type=lambda value: [int(each) for each in value.split(",")],
        default=_LEVELS,
        help=f"numbers of streams, default {_LEVELS}",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="default: all")
    parser.add_argument(
        "--clients",
        nargs="+",
        choices=("fast", "stock"),
        default=["fast"],
        help="clients of vLLM by which this service is run, each a server; default fast",
    )
    parser.add_argument(
        "--without-saturation", action="store_true", help="search no highest rate, which is slow"
    )
    parser.add_argument("--out", type=Path, default=Path("loadtests/out/frontend"), help="folder")
    parser.add_argument("--unpinned", action="store_true", help="let every process have every core")
    parser.add_argument(
        "--profile", action="store_true", help="afterwards record a py-spy profile of every case"
    )
    return parser


if __name__ == "__main__":
    main()
