"""Replicas that share a Redis: one judge, one log, and each observation once."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import PATIENCE_S, wait_until
from service.errors import ConfigurationError, Unavailable
from service.plugins.rollouts import shared_store
from service.plugins.rollouts.judge import Observation
from service.plugins.rollouts.metrics import ReleaseMetrics
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.shared_store import ROOT, SharedStore, read_store
from service.plugins.rollouts.store import LeaseLost, Outrun
from tests.plugins.rollouts.stores import NAME, STEP, VERDICT, Place, Replica
from tests.plugins.rollouts.test_store import RETRIED, count, rated


def scripts_of(replica: Replica) -> Any:
    assert isinstance(replica.store, SharedStore)
    return replica.store._scripts


async def two(place: Place) -> tuple[Replica, Replica]:
    """Replicas in one step, of which the first judges."""
    first, second = await place.opened(), await place.opened()
    await first.write(STEP)
    for replica in (first, second):
        await replica.sync()
        await replica.sync()
    assert (first.stage.judges, second.stage.judges) == (True, False)
    return first, second


async def end(*replicas: Replica) -> None:
    for replica in replicas:
        await replica.end()


def answered(replica: Replica) -> int:
    return sum(replica.stage.trial.answered)


def lose_answers(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the replica's scripts run, and their answers be lost."""
    scripts = scripts_of(replica)
    run = scripts.run

    async def without_answer(*arguments: Any) -> Any:
        await run(*arguments)
        raise Unavailable("no answer came")

    monkeypatch.setattr(scripts, "run", without_answer)


async def test_all_observations_are_counted_once(
    shared: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two(shared)
    count(first, 10)
    count(second, 5, tenants=3, seed=2)
    first.users[NAME] |= {"silent"}
    lose_answers(second, monkeypatch)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await second.sync()
    monkeypatch.undo()
    count(second, 3)
    for replica in (second, second, first, second):
        await replica.sync()
    assert answered(first) == answered(second) == 18
    one, other = first.stage.trial.counts(), second.stage.trial.counts()
    assert one["tests"] == other["tests"]
    assert one["tenants"] == other["tenants"] == [["t0", "t1", "t2"], ["silent", "t0", "t1", "t2"]]
    # A replica that dies takes with it what it had not sent, and nothing else.
    count(first, 7)
    third = await shared.opened()
    await third.sync()
    assert answered(third) == 18
    await end(first, second, third)


async def test_trusted_tenants_are_never_left_out(shared: Place) -> None:
    first, second = await two(shared)
    before = {"errors": False, "invalid": False}
    for tenant in ("trusted", "t0"):
        first.stage.add("old", tenant, _observation(before))
    await first.sync()
    await second.sync()
    (_, groups) = second.stage.trial.counts()["tests"]["errors"]
    assert [group for group, _ in groups] == [-1, 0]
    assert list(second.stage.trial.tenants.names) == ["t0"]
    await end(first, second)


def _observation(hits: Mapping[str, bool]) -> Any:
    return Observation(hits, ())


async def test_a_judge_that_lost_its_lease_writes_no_verdict(shared: Place) -> None:
    first, second = await two(shared)
    assert shared.redis is not None
    shared.redis.end_in(0.001, f"{ROOT}judge/*")
    async with asyncio.timeout(PATIENCE_S):
        while not second.stage.judges:
            await second.sync()
    with pytest.raises(LeaseLost):
        await first.write(VERDICT)
    assert first.effects == [STEP]
    await second.write(VERDICT)
    for _ in range(2):
        await first.sync()
    assert first.stages == second.stages == {}
    assert [each.event for each in first.store.changes] == [STEP.event, VERDICT.event]
    await end(first, second)


async def test_a_judge_that_ends_hands_over_at_once(shared: Place) -> None:
    first, second = await two(shared)
    count(first, 4)
    await end(first)
    await second.sync()
    assert second.stage.judges
    assert answered(second) == 4
    await end(second)


async def test_a_lease_ends_by_itself(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_store, "LEASE_SECONDS", 0.2)
    first, second = await two(shared)
    async with asyncio.timeout(PATIENCE_S):
        while not second.stage.judges:
            await second.sync()
    await first.sync()
    await end(first, second)


async def test_of_two_that_write_at_once_one_is_told_to_look_again(shared: Place) -> None:
    first, second = await shared.opened(), await shared.opened()
    await first.write(STEP)
    with pytest.raises(Outrun):
        await second.write(STEP)
    await second.refresh()
    assert second.store.head == first.store.head
    await second.write(RETRIED)
    await first.sync()
    assert [each.number for each in first.store.changes] == [1, 2]
    await end(first, second)


async def test_a_change_that_was_written_without_an_answer_is_its_writers(
    shared: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two(shared)
    lose_answers(first, monkeypatch)
    with pytest.raises(Unavailable):
        await first.write(VERDICT)
    monkeypatch.undo()
    assert (await first.sync()).own == [VERDICT]
    heard = await second.sync()
    assert (heard.changed, heard.own) == (True, [])
    await end(first, second)


async def test_what_the_judge_and_the_golden_examples_found_is_known_to_all(shared: Place) -> None:
    first, second = await two(shared)
    first.stage.trial.spared, first.stage.trial.disputed = {"ann"}, ("errors",)
    second.stage.golden = {"proven": False, "passed": 0}
    second.stage.trial.spared = {"nobody"}
    for replica in (first, second, first):
        await replica.sync()
    for replica in (first, second):
        assert (replica.stage.trial.spared, replica.stage.trial.disputed) == ({"ann"}, ("errors",))
        assert replica.stage.golden == {"proven": False, "passed": 0}
    verdict = first.stage.look()
    assert verdict is not None
    assert (verdict.harm, verdict.rule) == (True, "golden")
    await end(first, second)


async def test_a_store_that_lost_its_last_changes_gets_them_back(
    shared: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await two(shared)
    count(first, 5)
    await first.sync()
    await second.sync()
    assert shared.redis is not None
    shared.redis.kill()
    shared.redis.start()
    with caplog.at_level(logging.ERROR):
        for replica in (second, first):
            await replica.sync_again()
    assert caplog.text.count("it had lost the last 1 changes") == 1
    assert answered(first) == answered(second) == 0
    count(second, 2)
    await second.sync()
    assert answered(second) == 2
    third = await shared.opened()
    assert third.store.head == first.store.head
    await end(first, second, third)


async def test_another_log_replaces_ones_own(
    shared: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await two(shared)
    assert shared.redis is not None
    shared.redis.kill()
    shared.redis.start()
    stranger = await shared.opened()
    for change in (RETRIED, STEP):
        await stranger.write(change)
    await first.sync_again()
    assert first.store.head == stranger.store.head
    assert "replaces it" in caplog.text
    await end(first, second, stranger)


async def test_a_changed_log_ends_the_start_and_is_named(
    shared: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_store, "START_SECONDS", 0.0)
    first, _ = replicas = await two(shared)
    await first.write(RETRIED)
    key = f"{ROOT}changes"
    (line, *_) = await first.store.lines()  # type: ignore[attr-defined]
    forged = json.dumps(json.loads(line) | {"by": "nobody"})
    await scripts_of(first).ask(lambda client: client.lset(key, 0, forged))
    with pytest.raises(Unavailable, match="line 2: its `previous` is not"):
        await shared.opened()
    assert shared.redis is not None
    with pytest.raises(ConfigurationError, match="line 2: its `previous` is not"):
        await asyncio.to_thread(read_store, shared.redis.url)
    await end(*replicas)


async def test_a_start_waits_for_the_store(
    shared: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_store, "SYNC_SECONDS", 0.01)
    replica = Replica(shared.open())
    with shared.gone(replica.store):
        opening = asyncio.create_task(replica.refresh())
        await asyncio.to_thread(
            wait_until, lambda: "the start waits" in caplog.text, PATIENCE_S, "a look"
        )
    await opening
    await end(replica)


async def test_a_start_without_the_store_ends_after_a_while(
    shared: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_store, "START_SECONDS", 0.0)
    replica = Replica(shared.open())
    releases = Releases(replica.store, lambda *_: None, ReleaseMetrics(CollectorRegistry()))
    with shared.gone(replica.store):
        with pytest.raises(ConfigurationError, match="releases: The store of releases cannot be"):
            await releases.refresh()
        await end(replica)


async def test_counts_outlive_an_absence_of_the_store(shared: Place) -> None:
    first, second = await two(shared)
    with shared.gone(first.store):
        for _ in range(2):
            count(first, 3)
            with pytest.raises(Unavailable):
                await first.sync()
        with pytest.raises(Unavailable):
            await first.store.rate(rated())
    for replica in (second, first, second):
        await replica.sync_again()
    assert answered(second) == 6
    await end(first, second)
