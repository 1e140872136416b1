"""Tests which engine promises another release of vLLM keeps, with each client.

    python -m tools.vllm_contract 0.33.0

Runs the contract of engines (tests/engine/contract.py) with `engine.client: stock` and `fast`, in
the environment of the release's pinned list or else the one that `tools.vllm_hybrid` makes, or with
any `--python` that has the release and the packages of the tests. `fast` is tried there as if the
release were recorded as tested. Prints each promise with the clients that keep it. Ends with 1 if
the public client breaks one.
"""

import os
import subprocess
import sys
import tempfile
from functools import cache
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

from service.vllm import versions
from tools.command_line import command_line
from tools.vllm_environment import environment, window
from tools.vllm_hybrid import hybrid

_SUITE = "tests/engine/test_vllm.py"
_TEST = "test_vllm_upholds"
_CLIENTS = ("stock", "fast")
_KEPT = "holds"

Results = dict[str, str]
"""By each promise `holds`, or the first line of what speaks against it."""


def contract_suite(python: Path, client: str) -> Results:
    """Run the contract with an interpreter and `engine.client`; at least one result."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.xml", Path(folder) / "log"
        command = [str(python), "-m", "pytest", _SUITE, "-q", "-k", _TEST, "-m", "not timing"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-p", __spec__.name] if client == "fast" else []
        variables = os.environ | {"ENGINE_CLIENT": client}
        with log.open("wb") as output:
            subprocess.run(
                command, env=variables, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        cases = ElementTree.parse(report).iter("testcase") if report.is_file() else ()
        told = {_promise(case.get("name", "")): _outcome(case) for case in cases}
        end = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return told or {"the engine can be tried": end}


def _promise(test: str) -> str:
    return test.removeprefix(f"{_TEST}[").removesuffix("]").replace("_", " ")


def _outcome(case: ElementTree.Element) -> str:
    for kind in ("failure", "error", "skipped"):
        if (found := case.find(kind)) is not None:
            return (found.get("message") or kind).partition("\n")[0]
    return _KEPT


def pytest_configure() -> None:
    """As a pytest plugin: treat the installed release as tested."""
    from tools.vllm_versions import described

    recorded = versions.tested_versions()
    now = versions.installed_version()
    tried = recorded | {now: recorded.get(now) or described()}
    versions.tested_versions = cache(lambda: tried)


def told(results: dict[str, Results]) -> str:
    """The promises as lines: which clients keep each one, and the failures of those that do not."""
    lines = [f"{'promise':64}" + "".join(f"{client:>8}" for client in results)]
    reasons: dict[str, None] = {}
    for promise in dict.fromkeys(chain(*results.values())):
        said = {client: each.get(promise, "not run") for client, each in results.items()}
        marks = "".join(f"{_KEPT if each == _KEPT else 'FAILS':>8}" for each in said.values())
        lines.append(f"{promise:64}{marks}")
        broken = {client: each for client, each in said.items() if each != _KEPT}
        reasons |= {f"{client}: {each:.160}": None for client, each in broken.items()}
    return "\n".join([*lines, *reasons])


def _python(version: str) -> Path:
    """An interpreter with a release: of its pinned list, or of a hybrid where it has none."""
    return environment(version) if version in window() else hybrid(version)


def main() -> int:
    """Parse the command line, run both suites and print; returns the exit code."""
    parser = command_line("tools.vllm_contract", __doc__)
    parser.add_argument("version", help="such as 0.33.0")
    parser.add_argument("--python", type=Path, help="an interpreter with this release")
    options = parser.parse_args()
    python = options.python or _python(options.version)
    results = {client: contract_suite(python, client) for client in _CLIENTS}
    print(told(results))
    for client, each in results.items():
        kept = list(each.values()).count(_KEPT)
        print(f"{kept} of {len(each)} promises hold on vLLM {options.version} by {client}")
    return int(any(each != _KEPT for each in results["stock"].values()))


if __name__ == "__main__":
    sys.exit(main())
