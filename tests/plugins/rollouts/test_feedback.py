"""Feedback over both ports, on the fake engine: by whom, how often, and what follows."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.plugins.rollouts import feedback_ledger as seen_ids
from service.plugins.rollouts.log import read_log
from service.settings.load import mask_all
from tests.answers import refusal
from tests.live_service import LiveService
from tests.plugins.rollouts.versions import Folders, ask, is_old, release
from tools.keys import bearer, entry, write_keys

LONG = {"canary": [{"share": 0.5, "requests": 1000}]}
ANN = bearer("ann")
SECRET = "shared between replicas, 32 characters"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    few = entry("few", quotas={"requests_per_minute": 1})
    return {"tenants": {"keys": write_keys(tmp_path / "keys", entry("ann"), entry("bob"), few)}}


@pytest.fixture
def live(folders: Folders, tmp_path: Path, keys: dict[str, Any]) -> Iterator[LiveService]:
    with folders.served(tmp_path / "store", None, beside=keys) as live:
        yield live


def answered(
    live: LiveService, folders: Folders, path: str = "/v1/classify", **fields: Any
) -> httpx.Response:
    headers = fields.pop("headers", ANN)
    body = {"model": "sentiment", "input": folders.text} | fields
    answer = httpx.post(live.url + path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def rate(live: LiveService, answer: httpx.Response | str, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", ANN)
    given = answer if isinstance(answer, str) else answer.headers["x-feedback-id"]
    return httpx.post(f"{live.url}/v1/feedback", json={"id": given} | fields, headers=headers)


def label_of(answer: httpx.Response) -> str:
    return str(answer.json()["data"][0]["label"])


def test_an_answer_is_rated_once_by_its_label(live: LiveService, folders: Folders) -> None:
    answer = answered(live, folders)
    told = {"object": "feedback", "model": "sentiment", "version": "1.0.0", "score": 1.0}
    assert rate(live, answer, label=label_of(answer)).json() == told
    again = rate(live, answer, correct=False)
    assert refusal(again, 409)["code"] == "already_rated"
    other = answer.json()["data"][0]["scores"][1]["label"]
    assert rate(live, answered(live, folders), label=other).json()["score"] == 0.0
    labels = {"adapter": "sentiment", "version": "1.0.0"}
    assert live.value("inference_feedback_total", **labels) == 2
    assert live.value("inference_feedback_right_total", **labels) == 1
    assert live.value("inference_feedback_calibration_error", **labels) > 0


def test_an_id_of_every_route_can_be_rated(live: LiveService, folders: Folders) -> None:
    lines = answered(live, folders, headers=ANN | {"accept": "application/x-ndjson"})
    assert rate(live, lines, score=0.5).json()["score"] == 0.5
    (adapter,) = httpx.get(f"{live.url}/v1/adapters", headers=ANN).json()["data"]
    assert adapter["version"] == "1.0.0"
    base = httpx.post(f"{live.url}/v1/generate", json={"model": "fake", "prompt": "a"}, headers=ANN)
    assert "x-feedback-id" not in base.headers
    for stream in (True, False):
        body = {"model": "sentiment", "prompt": "a", "max_tokens": 2, "stream": stream}
        answer = httpx.post(f"{live.url}/v1/generate", json=body, headers=ANN)
        assert answer.status_code == 200, answer.text
        assert "label: this id holds no label" in rate(live, answer, label="positive").text
        assert rate(live, answer, correct=True).status_code == 200
    assert "x-feedback-id" not in rate(live, lines, score=1).headers


def test_only_its_own_tenant_rates_an_answer(live: LiveService, folders: Folders) -> None:
    answer = answered(live, folders)
    assert refusal(rate(live, answer, correct=True, headers=bearer("bob")), 404)["param"] == "id"
    assert refusal(rate(live, "none", correct=True), 404)["code"] == "answer_not_found"
    assert rate(live, answer, correct=True, headers={}).status_code == 401
    assert rate(live, answer, correct=True).status_code == 200


def test_a_tenant_that_lost_the_adapter_rates_it_no_more(
    folders: Folders, tmp_path: Path, keys: dict[str, Any]
) -> None:
    with folders.served(tmp_path / "store", None, beside=keys) as live:
        answer = answered(live, folders)
    write_keys(tmp_path / "keys", entry("ann", adapters=[]))
    with folders.served(tmp_path / "store", None, beside=keys) as live:
        assert refusal(rate(live, answer, correct=True), 404)["code"] == "model_not_found"


def test_a_rating_counts_in_the_quota(live: LiveService, folders: Folders) -> None:
    answer = answered(live, folders, headers=bearer("few"))
    assert rate(live, answer, correct=True, headers=bearer("few")).status_code == 429


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give exactly one of label, correct, score, got none"),
        ({"correct": True, "score": 1}, "got correct, score"),
        ({"score": 1.5}, "score"),
        ({"correct": "yes"}, "correct"),
        ({"label": "postive"}, "label: not one of the labels of sentiment@1.0.0, got 'postive'"),
    ],
)
def test_a_bad_rating_is_refused_and_the_answer_can_be_rated_yet(
    live: LiveService, folders: Folders, fields: dict[str, Any], message: str
) -> None:
    answer = answered(live, folders)
    assert message in refusal(rate(live, answer, **fields), 400)["message"]
    assert rate(live, answer, correct=True).status_code == 200


def test_ratings_and_the_key_survive_a_restart(
    folders: Folders, tmp_path: Path, keys: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    with folders.served(store, None, beside=keys) as live:
        rated, later = answered(live, folders), answered(live, folders)
        assert rate(live, rated, correct=True).status_code == 200
    with folders.served(store, None, beside=keys) as live:
        assert refusal(rate(live, rated, correct=True), 409)["code"] == "already_rated"
        assert rate(live, later, correct=False).status_code == 200
        (shown,) = httpx.get(f"{live.ops_url}/releases").json()["feedback"]
        assert (shown["rated"], shown["accuracy"]) == (2, 0.5)
    listed = CliRunner().invoke(app, ["releases", "accuracy", "--store", str(store)])
    assert "sentiment@1.0.0 rated 2 accuracy 0.5 calibration_error" in listed.output
    other = CliRunner().invoke(app, ["releases", "accuracy", "--store", str(store), "--name", "x"])
    assert (other.exit_code, other.stdout, other.stderr) == (0, "", "no feedback yet\n")


def test_wrong_answers_of_the_next_version_are_harm(folders: Folders, tmp_path: Path) -> None:
    with folders.served(tmp_path, "equal", **LONG) as live:
        for _ in range(200):
            answer = answered(live, folders, headers={})
            rated = rate(live, answer, correct=is_old(live, answer), headers={})
            assert rated.status_code == 200
            if release(live)["state"] == "rolled_back":
                break
        assert release(live)["state"] == "rolled_back"
        assert ask(live, folders, "sentiment@1.1.0")
    last = read_log(tmp_path)[0][-1]
    assert last.by == "rule:wrong"
    (evidence,) = last.evidence
    assert evidence["new"][0] == evidence["new"][1] < 30
    assert evidence["old"][0] == 0


def test_no_tenant_takes_a_version_from_others_alone(
    folders: Folders, tmp_path: Path, keys: dict[str, Any]
) -> None:
    with folders.served(tmp_path / "store", "equal", beside=keys, **LONG) as live:
        answered(live, folders, headers=bearer("bob"))
        for _ in range(60):
            answer = answered(live, folders)
            assert rate(live, answer, correct=is_old(live, answer, "ann")).status_code == 200
        assert release(live)["state"] == "canary"
        for _ in range(200):
            answer = answered(live, folders, headers=bearer("bob"))
            rate(live, answer, correct=is_old(live, answer, "bob"), headers=bearer("bob"))
            if release(live)["state"] == "rolled_back":
                break
        assert release(live)["state"] == "rolled_back"


def test_no_client_chooses_the_version_that_answers_it(folders: Folders, tmp_path: Path) -> None:
    fixed = {"x-request-id": "mine"}
    with folders.served(tmp_path, "equal", **LONG) as live:
        found = {is_old(live, answered(live, folders, headers=fixed)) for _ in range(40)}
    assert found == {True, False}


def test_ratings_of_answers_that_the_release_did_not_draw_are_not_judged(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal", **LONG) as live:
        for minor in (0, 1):
            answer = answered(live, folders, model=f"sentiment@1.{minor}.0", headers={})
            assert rate(live, answer, correct=False, headers={}).status_code == 200
        assert "wrong" not in {test["criterion"] for test in release(live)["tests"]}


def test_a_tenant_that_rates_much_makes_only_its_own_answers_too_old(
    live: LiveService, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_ids, "MOST", 3)
    bob = bearer("bob")
    early = answered(live, folders)
    others = [answered(live, folders, headers=bob) for _ in range(2)]
    assert rate(live, others[0], correct=True, headers=bob).status_code == 200
    for _ in range(3):
        assert rate(live, answered(live, folders), correct=True).status_code == 200
    assert refusal(rate(live, early, correct=True), 400)["code"] == "answer_too_old"
    assert refusal(rate(live, others[0], correct=True, headers=bob), 409)
    assert rate(live, others[1], correct=True, headers=bob).status_code == 200


def test_replicas_with_one_key_take_feedback_on_each_others_answers(
    folders: Folders, tmp_path: Path, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    in_file, in_settings = {"key_file": tmp_path / "key"}, {"key": SECRET}
    with (
        caplog.at_level(logging.DEBUG),
        folders.served(tmp_path / "a", None, beside=keys | {"feedback": in_file}) as first,
        folders.served(tmp_path / "b", None, beside=keys | {"feedback": in_settings}) as second,
    ):
        answer = answered(first, folders)
        assert rate(second, answer, label=label_of(answer)).json()["score"] == 1.0
        assert refusal(rate(second, answer, correct=True), 409)["code"] == "already_rated"
        assert refusal(rate(second, answer, correct=True, headers=bearer("bob")), 404)
        assert second.value("inference_feedback_total", adapter="sentiment") == 1
        assert first.value("inference_feedback_total", adapter="sentiment") == 0
        assert SECRET not in str(mask_all(second.settings))
    assert SECRET not in caplog.text


def test_replicas_with_other_keys_know_no_answers_of_each_other(
    folders: Folders, tmp_path: Path, keys: dict[str, Any]
) -> None:
    other = {"feedback": {"key": SECRET[::-1]}}
    with (
        folders.served(tmp_path / "a", None, beside=keys | {"feedback": {"key": SECRET}}) as first,
        folders.served(tmp_path / "b", None, beside=keys | other) as second,
    ):
        answer = answered(first, folders)
        refused = refusal(rate(second, answer, correct=True), 404)
        assert refused["code"] == "answer_not_found"


def test_answers_of_another_replica_are_counted_but_not_judged(
    folders: Folders, tmp_path: Path
) -> None:
    shared = {"feedback": {"key": SECRET}}
    with (
        folders.served(tmp_path / "a", "equal", beside=shared, **LONG) as first,
        folders.served(tmp_path / "b", "equal", beside=shared, **LONG) as second,
    ):
        for _ in range(20):
            answer = answered(first, folders, headers={})
            assert rate(second, answer, correct=False, headers={}).status_code == 200
        assert second.value("inference_feedback_total", adapter="sentiment") == 20
        assert "wrong" not in {test["criterion"] for test in release(second)["tests"]}
