"""Long checks: make has a target for each, no other run takes them, OPTIONS has their options."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONG_CHECKS
from tests.options import check_options, given

ROOT = Path(__file__).parents[1]
TARGETS = dict(re.findall(r"\$\(LONG\) (\w+) (\S+)", (ROOT / "Makefile").read_text()))
"""Where make looks for the tests of each marker."""


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def collected(*arguments: str) -> str:
    """The last line of a collection in the repository."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip().splitlines()[-1]


def test_make_has_a_target_for_each() -> None:
    assert TARGETS.keys() == LONG_CHECKS
    assert all((ROOT / place).exists() for place in TARGETS.values())


def test_only_the_marker_runs_one() -> None:
    place = "tests/admission/test_long_simulation.py"
    assert collected(place).startswith("no tests collected (1 deselected)")
    assert collected("-m", "simulation", place).startswith("1 test collected")


def test_options_are_the_words_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = check_options("any", "Anything.")
    parser.add_argument("--names", nargs="+", default=["a"])

    monkeypatch.delenv("OPTIONS", raising=False)
    assert given(parser).names == ["a"]
    monkeypatch.setenv("OPTIONS", "--names 'b c' d")
    assert given(parser).names == ["b c", "d"]


@pytest.mark.parametrize(("words", "code"), [("--help", 0), ("--name a", 2)])
def test_help_and_a_wrong_option_end_the_run(
    words: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTIONS", words)
    with pytest.raises(pytest.exit.Exception) as ended:
        given(check_options("any", "Anything."))
    assert ended.value.returncode == code
    assert "make any OPTIONS=" in "".join(capsys.readouterr())
