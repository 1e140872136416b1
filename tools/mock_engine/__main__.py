"""The command line: a server's module, run on the mock engine."""

import argparse
import os
import runpy
import sys

from tools.command_line import command_line
from tools.mock_engine import __doc__ as description
from tools.mock_engine.options import Options


def main(arguments: list[str]) -> None:
    """Run a server's module with the mock engine in the place of vLLM's engine process."""
    parser = command_line("tools.mock_engine", description)
    parser.add_argument(
        "--rate",
        default="",
        metavar="N|FILE",
        help="tokens/s of each stream, or a file that holds them and is read again when it "
        "changes; default, and of an empty file: one step after the other",
    )
    parser.add_argument(
        "--engine-cpus", type=_cpus, default=(), help="cores of the engine: 1 or 1,2"
    )
    parser.add_argument("--api-cpus", type=_cpus, default=(), help="cores of the server, likewise")
    parser.add_argument("module", help="a module to run, such as service.cli.main")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="the module's own arguments")
    options = parser.parse_args(arguments)
    Options(options.rate, options.engine_cpus).export()
    if options.api_cpus:
        os.sched_setaffinity(0, options.api_cpus)
    from tools.mock_engine.engine import take_over

    take_over()
    sys.argv[1:] = options.rest
    runpy.run_module(options.module, run_name="__main__", alter_sys=True)


def _cpus(value: str) -> tuple[int, ...]:
    return tuple(int(core) for core in value.split(","))


if __name__ == "__main__":
    main(sys.argv[1:])
