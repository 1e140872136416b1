"""The tests of the service's promises on each version of vLLM's window, with each client.

    python -m tools.vllm_window [--only 0.31.0] [--client stock] [--write]
        [--beside 0.33.0=some/environment/bin/python] [-- pytest's options]

Makes an environment for each version that has a pinned list, requirements/vllm-VERSION.txt; the
served version has the one that runs this. `--beside` adds an environment that was made otherwise.
`--write` writes a column for each version and client into the table of docs/versions.md, failed
tests by name. Ends with 1 if one failed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.command_line import command_line
from tools.vllm_environment import environment, window
from tools.vllm_window.run import CLIENTS, Cell, outcomes, version_of
from tools.vllm_window.table import write


def main() -> int:
    """Run every version with every client and print what failed; returns the exit code."""
    parser = command_line("tools.vllm_window", __doc__)
    parser.add_argument("--only", action="append", help="a version; may be given several times")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="default: both")
    parser.add_argument("--beside", action="append", default=[], metavar="VERSION=PYTHON")
    parser.add_argument("--write", action="store_true", help="write the table of docs/versions.md")
    options, rest = parser.parse_known_args()
    beside = dict(each.split("=", 1) for each in options.beside)
    versions = options.only or [*window(), *beside]
    failed = False
    for cell, python in _cells(versions, options.client or CLIENTS, beside):
        print(f"==> vLLM {cell.version}, the {cell.client} client", flush=True)
        found = outcomes(python, cell.client, *(each for each in rest if each != "--"))
        failed |= not all(each.good for each in found.values())
        if options.write:
            write(cell, found)
    return int(failed)


def _cells(
    versions: Sequence[str], clients: Sequence[str], beside: Mapping[str, str]
) -> Iterator[tuple[Cell, Path]]:
    """Each version with each client, and its Python; raises SystemExit for a wrong Python."""
    for version in versions:
        python = Path(beside[version]) if version in beside else environment(version)
        if (installed := version_of(python)) != version:
            raise SystemExit(f"error: {python} has vLLM {installed}, not {version}")
        for client in clients:
            yield Cell(version, client), python


if __name__ == "__main__":
    sys.exit(main())
