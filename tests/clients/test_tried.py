"""What the scripts print of a check: that it works, its error, or whose fault the error is."""

import json
import runpy
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.install import FOLDER

_FAULT = ("404", "it has no such route")


def fails() -> None:
    raise ValueError("404")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in ("URL", "MODEL", "TOOLS", "DECIDE", "ENCODER", "TOKENIZER", "SERVICE", "ROOT"):
        monkeypatch.setenv(f"CLIENTS_{name}", "unused")
    found: Callable[..., Any] = runpy.run_path(str(FOLDER / "python/tried.py"))["tried"]
    return found


@pytest.mark.parametrize(
    ("check", "fault", "printed"),
    [
        (lambda: None, (), {"failure": None}),
        (fails, (), {"failure": "ValueError: 404"}),
        (fails, _FAULT, {"failure": "ValueError: 404", "because": _FAULT[1]}),
        (fails, ("501", _FAULT[1]), {"failure": "ValueError: 404"}),
        (lambda: None, _FAULT, {"failure": f"works now, and should have failed: {_FAULT[1]}"}),
    ],
    ids=["works", "fails", "a fault of others", "another error", "mended by others"],
)
def test_a_line_says_whose_fault_an_error_is(
    tried: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    check: Callable[[], None],
    fault: tuple[str, ...],
    printed: dict[str, Any],
) -> None:
    tried("chat", *fault)(check)
    assert json.loads(capfd.readouterr().out) == {"what": "chat"} | printed
