"""Four replicas that share a rollout, of which one or the judge is killed in each stage.

    make fleet-rollout OPTIONS="--replicas 3"

Replicas are processes on the fake engine, their store a Redis. Each version is released while
requests are sent to the replicas in turn. In each stage a replica and then the judge is killed
right after it has answered requests, and is started again. Prints what was seen; fails if a
request fails, a verdict is in the log twice or not at all, or the counts of a stage are not the
answers, less those that a killed replica had not sent.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from service.adapters.manifest_yaml import load_manifest
from service.plugins.rollouts.shared_store import SYNC_SECONDS, read_store
from tests.adapters.proven import best_label, proven, served_base
from tests.adapters.samples import write_base
from tests.fleet.replicas import Replica, replicas
from tests.options import check_options, given
from tests.tenants.redis_server import RedisServer

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]

UNSENT = 5
"""Requests that a replica answers right before it is killed."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_fleet_decides_once_whoever_is_killed(folder: Path) -> None:
    parser = check_options("fleet-rollout", __doc__)
    parser.add_argument("--replicas", type=int, default=4)
    options = given(parser)
    text = asyncio.run(_versions(folder))
    for planned, end in {"equal": "full", "other": "rolled_back"}.items():
        (place := folder / f"fleet-{planned}").mkdir()
        with RedisServer() as redis:
            config = _config(folder, planned, redis.url)
            program = ("tests.fleet.fake_service",)
            with replicas(place, config, options.replicas, program) as fleet:
                Check(fleet, redis.url, text).run(planned, end)


async def _versions(folder: Path) -> str:
    """Write the versions; returns a text to which `other` gives another label than the rest."""
    base = served_base(write_base(folder / "base"))
    await proven(folder / "old", base, version="1.0.0")
    await proven(folder / "equal", base, version="1.1.0")
    await proven(folder / "other", base, version="1.2.0", seed=1)
    for number in range(1000):
        text = str(number)
        if await best_label(folder / "old", text) != await best_label(folder / "other", text):
            return text
    raise AssertionError("both versions give all texts the same label")


def _config(folder: Path, planned: str, storage: str) -> dict[str, Any]:
    plan = {
        "source": str(folder / planned),
        "digest": load_manifest(folder / planned).digest,
        "sticky": "request",
        "shadow": {"requests": 60, "share": 1.0, "busy_share": 1.0},
        "canary": [{"share": 0.4, "requests": 25}, {"share": 0.6, "requests": 25}],
        "tolerances": {"flips": 0.99, "divergence": 0.99},
    }
    return {
        "model": {"name": "fake", "path": str(folder / "base")},
        "adapters": [{"source": str(folder / "old"), "name": "sentiment"}],
        "adapter_cache": {"path": "cache"},
        "releases": {"storage": storage, "plans": {"sentiment": plan}},
    }


class Check:
    """A rollout of one version over replicas, with what was asked and what was counted."""

    def __init__(self, fleet: list[Replica], store: str, text: str) -> None:
        self._fleet = fleet
        self._store = store
        self._body = {"model": "sentiment", "input": text}
        self._answered = 0
        self._lost = 0

    def run(self, planned: str, end: str) -> None:
        """Release the version until its end, with kills in each stage."""
        stages = set[int]()
        while (found := self._read())["state"] != end:
            assert found["state"] in ("shadow", "canary"), found
            if found["since"] not in stages:
                stages.add(found["since"])
                wait_until(partial(self._all_in, found["since"]), PATIENCE_S, "one stage")
                self._lost, self._answered = 0, self._quiet()
                self._kill_in(f"{planned}: {found['state']} {found['share']:g}", found["since"])
            self._ask_all(1)
        for each in self._fleet:
            wait_until(partial(_is, each, end), PATIENCE_S, end)
        self._check_log(planned, end)

    def _kill_in(self, stage: str, since: int) -> None:
        for kind in ("a replica", "the judge"):
            self._ask_all(2)
            wait_until(lambda: self._judges() == 1, PATIENCE_S, "one judge")
            self._settle(since)
            victim = self._pick(judge=kind == "the judge")
            for _ in range(UNSENT):
                self._ask(victim)
            victim.kill()
            wait_until(lambda: self._judges() == 1, PATIENCE_S, "one judge of those that are left")
            if (found := self._read()).get("since") != since:
                print(f"{stage}: ended as {kind} was killed: {found['state']}", flush=True)
                victim.revive()
                return
            counted = _counted(found)
            lost = self._answered - self._lost - counted
            assert 0 <= lost <= UNSENT, (stage, counted, self._answered, self._lost)
            self._lost += lost
            print(
                f"{stage}: {kind} killed: {counted} counted of {self._answered} answered, "
                f"{lost} of its last {UNSENT} were not sent",
                flush=True,
            )
            victim.revive()

    def _settle(self, since: int) -> None:
        """Wait until all replicas that live have sent what they counted, and it is all there."""

        def settled() -> bool:
            found = self._read()
            if found.get("since") != since:
                return True
            counted = _counted(found)
            assert counted <= self._answered - self._lost, (counted, self._answered, self._lost)
            return counted == self._answered - self._lost

        wait_until(settled, PATIENCE_S, "every answer among the counts")

    def _ask_all(self, times: int) -> None:
        for _ in range(times):
            for each in self._fleet:
                self._ask(each)

    def _ask(self, replica: Replica) -> None:
        answer = httpx.post(f"{replica.url}/v1/classify", json=self._body, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        self._answered += 1

    def _pick(self, *, judge: bool) -> Replica:
        return next(each for each in self._fleet if _told(each)["judge"] is judge)

    def _quiet(self) -> int:
        """What a stage has counted once no replica has anything to send: some syncs later.

        A replica may have answered in this stage while another was still in the one before.
        """
        found = -1
        while (now := _counted(self._read())) != found:
            found = now
            time.sleep(3 * SYNC_SECONDS)
        return found

    def _all_in(self, since: int) -> bool:
        """True once every replica follows a stage; before that it counts for the stage before."""
        return all(_told(each).get("since") == since for each in self._fleet)

    def _judges(self) -> int:
        return sum(_told(each)["judge"] for each in self._fleet if each.server is not None)

    def _read(self) -> dict[str, Any]:
        """The rollout as a replica that lives tells it."""
        return _told(next(each for each in self._fleet if each.server is not None))

    def _check_log(self, planned: str, end: str) -> None:
        changes, _, _ = read_store(self._store)
        events = [(each.event.value, each.share) for each in changes]
        print(f"{planned}: {', '.join(f'{each.event} by {each.by}' for each in changes)}")
        assert len(events) == len(set(events))
        assert events[-1][0] == end
        told = [each.server.log.read_text() for each in self._fleet if each.server]
        assert sum(text.count(f"release of sentiment: {end} by") for text in told) == 1


def _counted(found: dict[str, Any]) -> int:
    """Requests that a stage has counted; in the shadow they are pairs, each of both versions."""
    old, new = found["requests"]["old"], found["requests"]["new"]
    return int(new if found["state"] == "shadow" else old + new)


def _told(replica: Replica) -> dict[str, Any]:
    assert replica.server is not None
    answer = httpx.get(f"{replica.server.ops}/releases", timeout=PATIENCE_S)
    (found,) = answer.raise_for_status().json()["releases"]
    return dict(found)


def _is(replica: Replica, state: str) -> bool:
    return bool(_told(replica)["state"] == state)
