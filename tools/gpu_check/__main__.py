"""The service's first check on a GPU, step by step: `make gpu-check`.

    python -m tools.gpu_check --model models/mine --engine max_model_len=8192

Stops at the first step that fails and exits with 1. report.md in --out says what each step found;
send it with a bug report.
"""

import sys
from pathlib import Path

from loadtests.peers import MODEL_FOLDER, engine_arguments
from loadtests.processes import unwind_on_sigterm
from tools.command_line import command_line
from tools.gpu_check.check import Check
from tools.gpu_check.steps import take


def main() -> int:
    """Take the steps; returns the exit code."""
    parser = command_line("tools.gpu_check", __doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder of the model")
    parser.add_argument("--engine", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("dist/gpu-check"))
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--users", type=int, default=256, help="streams of the benchmark")
    given = parser.parse_args()
    unwind_on_sigterm()
    engine = engine_arguments(given.engine)
    check = Check(given.model, engine, given.out, given.adapters, given.users)
    try:
        taken = take(check.steps(), given.out)
    finally:
        check.end()
    print(f"the report is in {given.out / 'report.md'}")
    return int(any(each.failure for each in taken))


if __name__ == "__main__":
    sys.exit(main())
