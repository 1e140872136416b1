"""The receiver of compose prints what a real Alertmanager delivers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.processes import PATIENCE_S, free_port, running, wait_until
from tests.deploy.test_rules import ROOT
from tests.ops.programs import alertmanager

RECEIVER = ROOT / "deploy/alertmanager/receiver.py"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The receiver's address, and the file that has what it printed."""
    port, printed = free_port(), tmp_path / "printed"
    with running([sys.executable, RECEIVER, str(port)], printed):
        wait_until(
            lambda: status(f"http://127.0.0.1:{port}", b"") == 400, PATIENCE_S, "the receiver"
        )
        yield f"http://127.0.0.1:{port}", printed


def test_an_alert_is_printed_with_its_receiver_labels_and_summary(
    receiver: tuple[str, Path], tmp_path: Path
) -> None:
    url, printed = receiver
    labels = {"alertname": "InferenceDown", "severity": "page", "job": "inference"}
    with alertmanager(tmp_path, url) as manager:
        alert = {"labels": labels, "annotations": {"summary": "a replica is silent"}}
        httpx.post(f"{manager.url}/api/v2/alerts", json=[alert]).raise_for_status()
        wait_until(lambda: bool(printed.read_text(encoding="utf-8")), PATIENCE_S, "a line")
    _, _, said = printed.read_text(encoding="utf-8").strip().partition(" ")
    expected = "job=inference severity=page: a replica is silent"
    assert said == f"pages firing InferenceDown {expected}"


def test_what_is_no_delivery_is_refused_and_not_printed(receiver: tuple[str, Path]) -> None:
    url, printed = receiver
    assert [status(url, body) for body in (b"{", b"[]", b'{"alerts": [1]}')] == [400] * 3
    assert status(url, b"x" * (2**20 + 1)) == 413
    assert printed.read_bytes() == b""


def status(url: str, body: bytes) -> int:
    """The status that a body is answered with; 0 while nothing listens."""
    try:
        return httpx.post(f"{url}/pages", content=body, timeout=PATIENCE_S).status_code
    except httpx.ConnectError:
        return 0
