"""The table of docs/howto/routers.md, without any router."""

import pytest

from tests.fleet.checks import CHECKS
from tests.fleet.routers import ROUTERS
from tests.fleet.table import PAGE, load_table, table


@pytest.fixture(autouse=True)
def _no_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fleet.routers.run", lambda *_: "HAProxy version 3.0.11-1 2026")


def test_known_faults_are_of_checks() -> None:
    assert {check for each in ROUTERS.values() for check in each.faults} <= CHECKS.keys()


def test_the_page_has_every_check_and_router() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table({}, page) in page
    assert table({}, page) != table({})


def test_what_was_not_tried_stays() -> None:
    first = table({"envoy": {"chat": "yes"}})
    second = table({"haproxy": {"chat": "its own fault"}}, first)
    row = next(line for line in second.splitlines() if line.startswith("| chat |"))
    cells = row.strip("| ").split(" | ")
    assert cells == ["chat", *["not tried"] * (len(ROUTERS) - 2), "yes", "its own fault"]


def test_figures_of_other_routers_stay() -> None:
    first = load_table({"envoy": {"kills": "3", "refused": "0"}})
    second = load_table({"vllm-router": {"kills": "4", "refused": "1"}}, first)
    assert second.splitlines() == [
        "| on the mock engine | vllm-router | envoy |",
        "| --- | --- | --- |",
        "| kills | 4 | 3 |",
        "| refused | 1 | 0 |",
    ]
