"""Label sets that follow feedback, over HTTP on the fake engine."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from tests.adapters.proven import proven, served_base, sources
from tests.adapters.samples import AdapterFolder, write_base
from tests.live_service import LiveService
from tests.plugins.rollouts.stores import Place

ADAPTIVE = {"adaptive_sets": True, "adaptive_step": 0.1}
FITTED = {"coverage": 0.9, "level": 0.1, "threshold": 0.5}
KEY = "shared between replicas, 32 characters"

Serve = Callable[..., LiveService]


@pytest.fixture
async def adapter(tmp_path: Path) -> AdapterFolder:
    """An adapter whose sets hold the labels of at least 0.5: one of two."""
    write_base(tmp_path / "base")
    made = await proven(tmp_path / "adapter", served_base(tmp_path / "base"))
    return recalibrated(made, threshold=0.5)


def recalibrated(adapter: AdapterFolder, threshold: float) -> AdapterFolder:
    conformal = {"coverage": 0.9, "threshold": threshold}
    adapter.manifest["classification"]["calibration"] = {"conformal": conformal}
    return adapter.write_manifest()


@pytest.fixture
def serve(tmp_path: Path, adapter: AdapterFolder) -> Serve:
    """Makes a replica with these settings of feedback, with its state in a folder or a Redis."""

    def made(store: str = "store", **feedback: Any) -> LiveService:
        shared = "://" in store
        return LiveService(
            model_path=tmp_path / "base",
            adapters=sources(adapter.path),
            adapter_cache={"path": tmp_path / "cache"},
            releases={"storage": store} if shared else {"path": tmp_path / store},
            feedback=feedback,
        )

    return made


def answered(live: LiveService, **headers: str) -> httpx.Response:
    body = {"model": "sentiment", "input": "good"}
    answer = httpx.post(f"{live.url}/v1/classify", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def conformal(live: LiveService) -> dict[str, float]:
    return dict(answered(live).json()["conformal"])


def rate(live: LiveService, answer: httpx.Response, **rating: Any) -> None:
    body = {"id": answer.headers["x-feedback-id"]} | rating
    response = httpx.post(f"{live.url}/v1/feedback", json=body)
    assert response.status_code == 200, response.text


def label(answer: httpx.Response, place: int) -> str:
    """A label by the order of its score: 0 is the one in the fitted set, 1 is not."""
    return str(answer.json()["data"][0]["scores"][place]["label"])


def test_sets_stay_as_fitted_unless_they_shall_follow(serve: Serve) -> None:
    with serve() as live:
        answer = answered(live)
        assert answer.json()["conformal"] == FITTED
        assert answer.json()["data"][0]["label_set"] == [label(answer, 0)]
        rate(live, answer, label=label(answer, 1))
        assert conformal(live) == FITTED


def test_a_set_that_missed_the_true_label_makes_the_next_ones_larger(serve: Serve) -> None:
    with serve(**ADAPTIVE) as live:
        answer = answered(live)
        assert answer.json()["conformal"] == FITTED
        rate(live, answer, label=label(answer, 1))
        larger = answered(live)
        told = larger.json()["conformal"]
        assert told["level"] == 0.01
        assert told["threshold"] == pytest.approx(0.05)
        assert len(larger.json()["data"][0]["label_set"]) == 2
        series = {"adapter": "sentiment", "version": "1.0.0"}
        assert live.value("inference_conformal_level", **series) == told["level"]
        rate(live, larger, label=label(answer, 1))
        assert conformal(live)["level"] == 0.02


def test_one_true_label_moves_the_level_by_its_step(serve: Serve) -> None:
    with serve(**ADAPTIVE) as live:
        answer = answered(live)
        rate(live, answer, label=label(answer, 1))
        assert conformal(live)["level"] == 0.01  # 0.1 + 0.1 (0.1 - 1)
        answer = answered(live, accept="application/x-ndjson")
        assert json.loads(answer.text.splitlines()[-1])["conformal"]["level"] == 0.01


def test_ratings_without_a_true_label_move_nothing(serve: Serve) -> None:
    with serve(**ADAPTIVE) as live:
        rate(live, answered(live), correct=False)
        rate(live, answered(live), score=0)
        assert conformal(live) == FITTED


def test_a_level_survives_a_restart_but_is_of_one_calibration_alone(
    serve: Serve, adapter: AdapterFolder
) -> None:
    with serve(**ADAPTIVE) as live:
        answer, late = answered(live), answered(live)
        rate(live, answer, label=label(answer, 1))
        moved = conformal(live)
    with serve(**ADAPTIVE) as live:
        assert conformal(live) == moved
    recalibrated(adapter, threshold=0.6)
    with serve(**ADAPTIVE) as live:
        rate(live, late, label=label(late, 1))
        assert conformal(live) == FITTED | {"threshold": 0.4}


def test_feedback_at_another_replica_moves_its_level(serve: Serve) -> None:
    with serve("a", key=KEY, **ADAPTIVE) as first, serve("b", key=KEY, **ADAPTIVE) as second:
        answer = answered(first)
        rate(second, answer, label=label(answer, 1))
        assert conformal(second)["level"] == 0.01
        assert conformal(first) == FITTED


def test_replicas_that_share_a_store_share_levels(serve: Serve, shared: Place) -> None:
    assert shared.redis is not None
    url = shared.redis.url
    with serve(url, **ADAPTIVE) as first, serve(url, **ADAPTIVE) as second:
        answer = answered(first)
        rate(second, answer, label=label(answer, 1))
        for live in (first, second):
            wait_until(partial(_moved, live), PATIENCE_S, "the level")


def _moved(live: LiveService) -> bool:
    return conformal(live)["level"] == 0.01
