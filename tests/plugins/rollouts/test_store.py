"""What both stores of releases promise: a folder's, and that of replicas in a Redis."""

import random
from dataclasses import replace
from typing import Any

import pytest

from service.errors import Conflict, InvalidRequest, Unavailable
from service.plugins.rollouts import feedback_ledger, shared_store
from service.plugins.rollouts.answer_ids import RatedAnswer, ToldLabel, ToldSet
from service.plugins.rollouts.feedback_ledger import Rated, Rating, Tally, Version, moved
from service.plugins.rollouts.judge import Observation
from service.plugins.rollouts.log import Change, Event
from tests.plugins.rollouts.stores import NAME, OLD, STEP, VERDICT, Place, Replica
from tests.plugins.rollouts.test_judge import Version as AnyVersion

RETRIED = Change(NAME, Event.RETRIED, "person:ann", OLD.digest, STEP.after, 0.0)
VERSION = Version(NAME, "1.0.0")


def told(label_set: ToldSet | None = None) -> ToldLabel:
    return ToldLabel(1, 0.8, False, label_set)


def rated(tenant: str = "ann", time: int = 1000, nonce: str = "n", **fields: Any) -> Rated:
    answer = RatedAnswer(NAME, "1.0.0", OLD.digest[7:], 0, time, told(), nonce)
    given: dict[str, Any] = {"rating": Rating.by_label(told(), 1), "now": 1010.0} | fields
    return Rated(tenant, replace(answer, told=given.pop("told", told())), **given)


def count(replica: Replica, requests: int, tenants: int = 2, seed: int = 1) -> None:
    """Observe requests of both versions, and ratings, of tenants in turn."""
    draws, version = random.Random(seed), AnyVersion()
    for number in range(requests):
        tenant = f"t{number % tenants}"
        arm: Any = "old" if draws.random() < 0.5 else "new"
        before = Observation({"errors": None, "invalid": False})
        assert not replica.stage.add(arm, tenant, before)
        assert not replica.stage.add(arm, tenant, version.answer(draws), before)
        assert not replica.stage.rate(STEP.after[7:], 0.75, tenant)  # type: ignore[index]


async def test_the_log_goes_on_after_a_restart(place: Place) -> None:
    first = await place.opened()
    await first.write(STEP)
    await first.sync()
    await first.write(RETRIED)
    head, changes = first.store.head, list(first.store.changes)
    await first.end()
    assert [each.number for each in changes] == [1, 2]
    second = await place.opened()
    assert (second.store.head, list(second.store.changes)) == (head, changes)
    await second.write(RETRIED)
    assert second.store.changes[-1].number == 3
    assert first.effects == [STEP, RETRIED]
    await second.end()


async def test_counts_go_on_after_a_restart_and_end_with_their_stage(place: Place) -> None:
    first, alone = await place.opened(), Replica(Place(place.path / "alone", None).open())
    for replica in (first, alone):
        await replica.write(STEP)
        count(replica, 30, tenants=20)
        await replica.sync()
    counted = alone.stage.trial.counts()
    await first.end()
    second = await place.opened()
    await second.sync()
    found = second.stage.trial.counts()
    for name, (every, groups) in counted["tests"].items():
        assert found["tests"][name] == [pytest.approx(every), sorted(groups)]
    assert found["tenants"] == counted["tenants"]
    assert min(second.stage.trial.answered) > 0
    await second.write(STEP)
    await second.sync()
    assert second.stage.trial.answered == (0, 0)
    await second.end()
    await alone.end()


async def test_an_answer_is_rated_once_also_after_a_restart(place: Place) -> None:
    first = await place.opened()
    whole = Tally()
    for each in (rated(), rated(nonce="m"), rated("bob", rating=Rating(0.25), told=None)):
        whole.add(each.answer.told, each.rating)
        assert await first.store.rate(each) == whole
    with pytest.raises(Conflict, match="rated already"):
        await first.store.rate(rated())
    await first.sync()
    await first.end()
    second = await place.opened()
    assert await second.store.tallies() == {VERSION: whole}
    with pytest.raises(Conflict):
        await second.store.rate(rated())
    await second.end()


async def test_a_full_memory_of_ratings_forgets_those_of_the_tenant_with_most(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feedback_ledger, shared_store):
        monkeypatch.setattr(module, "MOST", 3)
    replica = await place.opened()
    for each in (rated("bob"), rated(time=1002), rated(time=1001), rated(time=1003)):
        await replica.store.rate(each)
    with pytest.raises(InvalidRequest, match="too many answers"):
        await replica.store.rate(rated(time=1001))
    for each in (rated("bob"), rated(time=1002)):
        with pytest.raises(Conflict):
            await replica.store.rate(each)
    await replica.end()


async def test_an_old_version_leaves_a_full_store(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feedback_ledger, shared_store):
        monkeypatch.setattr(module, "MOST_VERSIONS", 2)
    replica = await place.opened()
    for number, version in enumerate(("1", "2", "1", "3")):
        each = rated(nonce=str(number))
        await replica.store.rate(replace(each, answer=replace(each.answer, version=version)))
    assert [version for _, version in await replica.store.tallies()] == ["2", "3"]
    await replica.end()


async def test_ratings_move_the_level(place: Place) -> None:
    replica, level, draws = await place.opened(), 0.1, random.Random(1)
    for number in range(40):
        own = ToldSet(frozenset({1}), 0.9, draws.random())
        label = draws.randrange(2)
        await replica.store.rate(
            rated(
                nonce=str(number),
                told=told(own),
                rating=Rating.by_label(told(own), label),
                step=0.1,
            )
        )
        level = moved(level, own, 0.1, missed=label == 0)
    await replica.sync()
    assert list(replica.store.levels.values()) == pytest.approx([level])
    await replica.end()


async def test_a_store_that_is_away_says_so_and_goes_on_when_it_is_back(place: Place) -> None:
    replica = await place.opened()
    await replica.write(STEP)
    with place.gone(replica.store):
        with pytest.raises(Unavailable) as refused:
            await replica.write(RETRIED)
        assert refused.value.code == "store_unavailable"
    assert replica.effects == [STEP]
    await replica.refresh()
    await replica.write(RETRIED)
    assert [each.event for each in replica.store.changes] == [STEP.event, RETRIED.event]
    await replica.end()


async def test_the_key_of_answers_stays(place: Place) -> None:
    first = await place.opened()
    key = first.store.key
    await first.end()
    second = await place.opened()
    assert second.store.key == key
    await second.end()


async def test_a_rollback_ends_the_stage(place: Place) -> None:
    replica = await place.opened()
    await replica.write(STEP)
    await replica.sync()
    assert replica.stage.judges
    await replica.write(VERDICT)
    assert replica.stages == {}
    await replica.end()
