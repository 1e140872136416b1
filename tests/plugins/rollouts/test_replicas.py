"""Two services that share the state of releases, over both ports, on the fake engine."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S, wait_until
from service.cli.main import app
from service.plugins.rollouts.shared_store import SharedStore, read_store
from service.settings.tree import Settings
from tests.answers import refusal
from tests.live_service import LiveService
from tests.plugins.rollouts.stores import Place
from tests.plugins.rollouts.versions import Folders, act, ask, is_old, release, version

LONG = [{"share": 0.5, "requests": 1000}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedStore, "pause_seconds", 0.05)


@contextmanager
def served(
    folders: Folders, place: Place, planned: str, number: int = 2, **plan: Any
) -> Iterator[list[LiveService]]:
    """So many replicas that release a version together."""
    assert place.redis is not None
    shared = {"storage": place.redis.url}
    with ExitStack() as stack:
        replicas = []
        for index in range(number):
            sections = folders.sections(place.path, planned, **plan)
            sections["releases"] = {"plans": sections["releases"]["plans"]} | shared
            sections["adapter_cache"] = {"path": place.path / f"cache{index}"}
            live = LiveService(model_path=folders.base, **sections)
            replicas.append(stack.enter_context(live))
        yield replicas


def events(place: Place) -> list[tuple[str, str]]:
    assert place.redis is not None
    return [(each.event, each.by) for each in read_store(place.redis.url)[0]]


def ask_all(replicas: list[LiveService], folders: Folders, state: str) -> None:
    """Ask replicas in turn until all are in this state."""
    for _ in range(400):
        for live in replicas:
            ask(live, folders)
        if all(release(live)["state"] == state for live in replicas):
            return
    raise AssertionError([release(live) for live in replicas])


def _is(live: LiveService, state: str) -> bool:
    return bool(release(live)["state"] == state)


def judges(replicas: list[LiveService]) -> int:
    return sum(release(live)["judge"] for live in replicas)


def test_a_bad_version_is_rolled_back_once_for_all(
    folders: Folders, shared: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service.plugins.rollouts")
    with served(folders, shared, "other", canary=LONG) as replicas:
        old = ask(replicas[0], folders, "sentiment@1.0.0")
        wait_until(lambda: judges(replicas) == 1, PATIENCE_S, "a judge")
        ask_all(replicas, folders, "rolled_back")
        assert {ask(live, folders) for live in replicas for _ in range(10)} == {old}
        changes = [
            live.value("inference_release_changes_total", adapter="sentiment", event="rolled_back")
            for live in replicas
        ]
        assert sum(changes) == 1
    assert [event for event, _ in events(shared)] == ["configured", "step", "rolled_back"]
    assert caplog.text.count("release of sentiment: rolled_back") == 1
    with served(folders, shared, "other", number=1, canary=LONG) as (live,):
        assert release(live)["state"] == "rolled_back"


def test_a_good_version_goes_live_at_all_by_the_requests_of_all(
    folders: Folders, shared: Place
) -> None:
    with served(folders, shared, "equal", number=3) as replicas:
        ask_all(replicas, folders, "full")
        assert {version(live) for live in replicas} == {"1.1.0"}
    assert [event for event, _ in events(shared)] == ["configured", "step", "step", "full"]
    assert shared.redis is not None
    verified = CliRunner().invoke(app, ["releases", "verify", "--store", shared.redis.url])
    assert verified.output.startswith("4 changes, unbroken")


def test_a_person_decides_for_all_at_any_replica(folders: Folders, shared: Place) -> None:
    with served(folders, shared, "other", canary=LONG) as replicas:
        one, other = replicas
        for action, state in {
            "promote": "full",
            "rollback": "rolled_back",
            "retry": "canary",
        }.items():
            assert act(one, action).json()["state"] == state
            wait_until(partial(_is, other, state), PATIENCE_S, state)
            one, other = other, one
        assert [by for _, by in events(shared)[-4:]] == ["person:ann"] * 4


def test_a_replica_without_the_store_serves_and_decides_nothing(
    folders: Folders, shared: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert shared.redis is not None
    with served(folders, shared, "other", canary=LONG) as replicas:
        (live, _) = replicas
        before = events(shared)
        with shared.gone(SharedStore(shared.redis.url)):
            wait_until(
                lambda: live.value("inference_release_store_up") == 0, PATIENCE_S, "the gauge"
            )
            labels = {ask(live, folders) for _ in range(60)}
            assert len(labels) == 2
            assert release(live)["state"] == "canary"
            assert judges([live]) == 0
            assert act(live, "rollback").status_code == 503
            given = httpx.post(
                f"{live.url}/v1/classify", json={"model": "sentiment", "input": folders.text}
            )
            body = {"id": given.headers["x-feedback-id"], "correct": True}
            refused = httpx.post(f"{live.url}/v1/feedback", json=body)
            assert refusal(refused, 503)["code"] == "store_unavailable"
        ask_all(replicas, folders, "rolled_back")
        assert live.value("inference_release_store_up") == 1
        assert events(shared)[:-1] == before
    assert caplog.text.count("Stages stay as they are") == len(replicas)


def test_any_replica_takes_a_rating_once(folders: Folders, shared: Place) -> None:
    with served(folders, shared, "equal", canary=LONG) as (one, other):
        given = httpx.post(
            f"{one.url}/v1/classify", json={"model": "sentiment", "input": folders.text}
        )
        body = {"id": given.headers["x-feedback-id"], "correct": False}
        assert httpx.post(f"{other.url}/v1/feedback", json=body).status_code == 200
        again = httpx.post(f"{one.url}/v1/feedback", json=body)
        assert refusal(again, 409)["code"] == "already_rated"

        def wrong(live: LiveService) -> bool:
            tests = {each["criterion"]: each for each in release(live)["tests"]}
            arm = "old" if is_old(live, given) else "new"
            return "wrong" in tests and tests["wrong"][arm] == [1, 1]

        for live in (one, other):
            wait_until(partial(wrong, live), PATIENCE_S, "the rating at the judge")
            (told,) = httpx.get(f"{live.ops_url}/releases").json()["feedback"]
            assert (told["rated"], told["accuracy"]) == (1, 0)


def test_only_one_place_of_the_state_may_be_given(folders: Folders, tmp_path: Path) -> None:
    sections = folders.sections(tmp_path, "equal")
    model = {"name": "fake", "path": folders.base}
    sections["releases"]["storage"] = "redis://127.0.0.1:1"
    with pytest.raises(ValueError, match="only one of `path` and `storage`"):
        Settings.model_validate({"model": model} | sections)
    del sections["releases"]["storage"], sections["releases"]["path"]
    with pytest.raises(ValueError, match="it or `storage` is required with plans"):
        Settings.model_validate({"model": model} | sections)
