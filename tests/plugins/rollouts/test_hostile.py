"""Hostile tenants beside honest ones, over HTTP on the fake engine.

They know which version answers them, more than a client can, and leave at their first bytes.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from tests.live_service import LiveService
from tests.plugins.rollouts.versions import Folders, is_old, release
from tools.keys import bearer, entry, write_keys

CALLS = 700
LONG = {"share": 0.5, "requests": 10_000}
NDJSON = {"accept": "application/x-ndjson"}


class Caller:
    """One tenant, which asks for classifications."""

    def __init__(self, live: LiveService, tenant: str) -> None:
        self.tenant = tenant
        self._live = live
        self.http = httpx.Client(
            base_url=live.url, headers=bearer(tenant), timeout=PATIENCE_S, trust_env=False
        )

    def label(self, text: str, model: str = "sentiment") -> str:
        """The label of a text."""
        answer = self.http.post("/v1/classify", json={"model": model, "input": text})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"][0]["label"])

    def biased(self, texts: Sequence[str]) -> bool:
        """Ask for texts as lines, and leave at the first bytes of the present version's answer.

        True if it was the present version's.
        """
        body = {"model": "sentiment", "input": list(texts)}
        with self.http.stream("POST", "/v1/classify", headers=NDJSON, json=body) as answer:
            if left := is_old(self._live, answer, self.tenant):
                return left
            assert all("label" in json.loads(each) for each in [*answer.iter_lines()][:-1])
        return False


@contextmanager
def service(
    folders: Folders, folder: Path, planned: str, tenants: Sequence[str], requests: int, **plan: Any
) -> Iterator[tuple[LiveService, dict[str, Caller]]]:
    keys = write_keys(folder / "keys", *map(entry, tenants))
    step = [LONG | {"requests": requests}]
    with folders.served(
        folder / "store", planned, canary=step, beside={"tenants": {"keys": keys}}, **plan
    ) as live:
        callers = {name: Caller(live, name) for name in tenants}
        with ExitStack() as clients:
            for each in callers.values():
                clients.enter_context(each.http)
            yield live, callers


def texts_by(ask: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    return ((text, ask(text)) for text in map("text {}".format, itertools.count()))


@pytest.mark.parametrize(
    ("honest", "hostile"), [(("ann",), ("mal",)), (("ann", "bob", "cy"), ("mal", "moe"))]
)
def test_who_leaves_the_present_version_rolls_no_equal_one_back(
    folders: Folders, tmp_path: Path, honest: Sequence[str], hostile: Sequence[str]
) -> None:
    # More than there are requests, so that only a rollback ends the step.
    with service(folders, tmp_path, "equal", [*honest, *hostile], 10_000) as (live, callers):
        ann = callers["ann"]
        known = dict(itertools.islice(texts_by(ann.label), 40))
        (rare, _) = Counter(known.values()).most_common()[-1]
        of_rare = [text for text, label in known.items() if label == rare]
        for number in range(CALLS):
            callers[honest[number % len(honest)]].label(f"text {number % 40}")
        left = 0
        for number in range(CALLS):
            caller = callers[hostile[number % len(hostile)]]
            left += caller.biased(of_rare)
        assert left > CALLS / 4
        found = release(live)
        assert found["state"] == "canary"
        # Each request counts, and so does the label that it was answered first with.
        assert sum(found["requests"][arm] for arm in ("old", "new")) == 2 * CALLS + 40
        (test,) = (each for each in found["tests"] if each["criterion"] == "abstentions")
        assert test["old"][1] + test["new"][1] == 2 * CALLS + 40
        assert (found["disputed"], found["spared"]) == ([], [])


def test_who_hides_harm_beside_most_others_keeps_no_bad_version_alive(
    folders: Folders, tmp_path: Path
) -> None:
    honest, hostile = ("ann", "bob", "cy"), ("mal", "moe")
    with service(folders, tmp_path, "other", [*honest, *hostile], 10_000) as (live, callers):
        alike = next(
            text
            for text, old in texts_by(lambda text: callers["mal"].label(text, "sentiment@1.0.0"))
            if callers["mal"].label(text, "sentiment@1.2.0") == old
        )
        for number in range(CALLS):
            callers[honest[number % len(honest)]].label(folders.text)
            callers[hostile[number % len(hostile)]].label(alike)
            if number % 20 == 0 and release(live)["state"] == "rolled_back":
                break
        assert release(live)["state"] == "rolled_back"


def test_harm_that_one_of_two_tenants_hides_stops_at_a_dispute(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.rollouts.releases.TICK_SECONDS", 0.1)
    # The versions' scores differ for every text.
    labels = {"tolerances": {"scores": 0.99}}
    with service(folders, tmp_path, "other", ["ann", "mal"], 60, **labels) as (live, callers):
        alike = next(
            text
            for text, old in texts_by(lambda text: callers["mal"].label(text, "sentiment@1.0.0"))
            if callers["mal"].label(text, "sentiment@1.2.0") == old
        )
        for _ in range(200):
            callers["ann"].label(folders.text)
            callers["mal"].label(alike)
        found = release(live)
        assert found["state"] == "canary"
        assert found["disputed"]
        assert found["spared"] == ["ann"]
        disputed = partial(live.value, "inference_release_state", state="disputed")
        wait_until(disputed, PATIENCE_S, "the state for the alert")
        # The old version answers ann's requests meanwhile.
        old = callers["ann"].label(folders.text, "sentiment@1.0.0")
        assert {callers["ann"].label(folders.text) for _ in range(20)} == {old}


def test_a_stream_counts_from_its_first_token_on(folders: Folders, tmp_path: Path) -> None:
    body = {"model": "sentiment", "prompt": "a", "max_tokens": 400, "stream": True}
    slow = {"token_seconds": 0.02}
    with folders.served(tmp_path, "equal", beside=slow, canary=[LONG]) as live:
        for number in range(1, 7):
            with httpx.stream("POST", f"{live.url}/v1/generate", json=body) as answer:
                next(answer.iter_lines())
                counted = release(live)["requests"]
            assert counted["old"] + counted["new"] == number
        wait_until(live.idle, PATIENCE_S, "the ends of the streams")
        tests = {each["criterion"]: each for each in release(live)["tests"]}
    known = {name: tests[name]["old"][1] + tests[name]["new"][1] for name in tests}
    # Of its end nothing is known: neither whether it would have failed, nor its length.
    assert known == {"invalid": 6, "ttft": 6}
    assert live.outcomes() == {"cancelled": 6}


def test_no_header_and_no_field_tells_which_of_two_equal_versions_answers(
    folders: Folders, tmp_path: Path
) -> None:
    with service(folders, tmp_path, "equal", ["ann"], 10_000) as (live, _):
        seen, versions, ids = set(), set(), set()
        for number in range(40):
            headers = bearer("ann") | {"x-request-id": "same"} | (NDJSON if number % 2 else {})
            body = {"model": "sentiment", "input": "a text"}
            answer = httpx.post(f"{live.url}/v1/classify", json=body, headers=headers)
            versions.add(is_old(live, answer, "ann"))
            ids.add(len(answer.headers["x-feedback-id"]))
            told = dict(answer.headers)
            for varies in ("x-feedback-id", "date", "content-length"):
                told.pop(varies, None)
            lines = [json.loads(line) for line in answer.text.splitlines()]
            for line in lines:
                line.pop("timing", None), line.pop("created", None)
            seen.add(json.dumps([told, lines], sort_keys=True))
        assert versions == {True, False}
        assert len(ids) == 1
        assert len(seen) == 2  # whole, and as lines
