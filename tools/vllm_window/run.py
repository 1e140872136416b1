"""Runs the tests of all promises on one version of vLLM, with one client."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

CLIENTS = ("stock", "fast")
PROMISES: Mapping[str, str] = {
    "an engine's contract, and vLLM's own bytes": "tests/engine/test_vllm.py",
    "the public client beside the fast one": "tests/engine/test_stock.py",
    "the choice of the client": "tests/engine/test_versions.py",
    "the service's own routes, with six adapters": "tests/engine/test_service.py",
    "chats and completions": "tests/engine/test_vllms_answers.py",
    "classification": "tests/engine/test_classification.py",
    "tools": "tests/engine/test_tools.py",
    "thoughts": "tests/engine/test_thinking_parsers.py",
    "Anthropic's messages": "tests/engine/test_messages.py",
    "responses": "tests/engine/test_responses.py",
    "embeddings, scores, heads": "tests/engine/test_encoders.py",
}
"""What is promised, and the tests that hold it."""

_LEFT_OUT = "not timing and not families and not browser"


class Cell(NamedTuple):
    """A version of vLLM, and the client that reaches it."""

    version: str
    client: str


@dataclass(slots=True)
class Outcome:
    """Test results of one file; all zero means that the file did not run."""

    passed: int = 0
    left_out: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """True if its tests ran and none failed."""
        return bool(self.passed) and not self.failed


def version_of(python: Path) -> str:
    """The release of vLLM in an environment."""
    code = "from service.vllm.versions import installed_version; print(installed_version())"
    run = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return run.stdout.split()[-1]


def outcomes(python: Path, client: str, *options: str) -> dict[str, Outcome]:
    """The outcome of each promise's file, run in an environment with a client."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(python), "-m", "pytest", *PROMISES.values(), "-q", "-m", _LEFT_OUT]
        command += ["--junitxml", str(report), *options]
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        subprocess.run(command, check=False, env={**os.environ, **quiet, "ENGINE_CLIENT": client})
        return told(report.read_text(encoding="utf-8") if report.is_file() else "<none/>")


def told(report: str) -> dict[str, Outcome]:
    """The outcome of each promise's file by a report of pytest, in JUnit's XML."""
    found = {file: Outcome() for file in PROMISES.values()}
    for file, name, result in _tests(report):
        if (outcome := found.get(file)) is None:
            continue
        if result in ("failure", "error"):
            # A test that fails and whose end fails, too, is told twice.
            outcome.failed += [] if name in outcome.failed else [name]
        elif result == "skipped":
            outcome.left_out += 1
        else:
            outcome.passed += 1
    return found


def _tests(report: str) -> Iterator[tuple[str, str, str]]:
    """The file, the name and the result of each test; the result is empty if it passed."""
    for case in ElementTree.fromstring(report).iter("testcase"):
        # A file that cannot be imported is told as a test with the file's module as its name.
        module, name = case.get("classname", ""), case.get("name", "")
        results = [each.tag for each in case if each.tag in ("failure", "error", "skipped")]
        file = f"{(module or name).replace('.', '/')}.py"
        yield file, name if module else "(import)", results[0] if results else ""
