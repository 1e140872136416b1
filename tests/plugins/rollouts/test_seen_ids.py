"""Answers count once, also where the memory of them is full."""

import pytest

from service.errors import InvalidRequest
from service.plugins.rollouts import feedback_ledger as seen_ids
from service.plugins.rollouts.answer_ids import RatedAnswer
from service.plugins.rollouts.feedback_ledger import SeenIds


def answer(time: int, nonce: str = "n") -> RatedAnswer:
    return RatedAnswer("a", "1.0.0", "d", 0, time, None, nonce)


def test_an_answer_counts_once() -> None:
    seen = SeenIds()
    assert seen.add("ann", answer(10), 20)
    assert seen.add("ann", answer(10, "other"), 20)
    assert not seen.add("ann", answer(10), 20)
    assert not SeenIds(seen.kept()).add("ann", answer(10), 20)


def test_a_full_memory_refuses_what_is_as_old_as_what_it_forgot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_ids, "MOST", 3)
    seen = SeenIds()
    for time in (14, 11, 13, 12):
        assert seen.add("ann", answer(time), 20)
    assert len(seen.kept()["ann"]["ids"]) == 3
    for time in (9, 11):
        with pytest.raises(InvalidRequest, match="too many answers since"):
            SeenIds(seen.kept()).add("ann", answer(time, "new"), 20)
    assert not seen.add("ann", answer(12), 20)


def test_a_tenant_that_rates_much_takes_no_place_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_ids, "MOST", 4)
    seen = SeenIds()
    for time in (1, 2):
        assert seen.add("bob", answer(time), 20)
    for time in range(3, 9):
        assert seen.add("ann", answer(time), 20)
    assert sum(len(each["ids"]) for each in seen.kept().values()) == 4
    assert not seen.add("bob", answer(1), 20)
    assert seen.add("bob", answer(1, "late"), 20)
    with pytest.raises(InvalidRequest, match="too many answers since"):
        seen.add("ann", answer(6, "late"), 20)


def test_answers_of_more_than_a_day_ago_leave_the_memory() -> None:
    seen = SeenIds()
    seen.add("ann", answer(10), 20)
    seen.add("ann", answer(90_000), 90_000)
    assert seen.kept()["ann"]["ids"] == [(90_000, "n")]
