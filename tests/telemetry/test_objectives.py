"""Objectives: requests that meet them, miss them, or have none."""

import time

import pytest

from service.context import Ending, Times
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    QueueFull,
    ServiceError,
    TooManyRequests,
)
from service.settings.telemetry import ObjectiveSettings, SloSettings
from service.telemetry.metrics import missed_objectives
from tests.telemetry.contexts import ended_request

SLO = SloSettings(
    ttft_ms=500,
    tpot_ms=50,
    routes={"/v1/classify": ObjectiveSettings(ttft_ms=100, e2e_ms=1000)},
    models={"fast": ObjectiveSettings(ttft_ms=10)},
)


@pytest.mark.parametrize(
    ("route", "model", "missed"),
    [
        ("/v1/generate", "m", []),
        ("/v1/classify", "m", ["ttft"]),
        ("/v1/generate", "fast", ["ttft"]),
    ],
)
def test_a_models_objectives_go_before_its_routes(
    route: str, model: str, missed: list[str]
) -> None:
    first = {"m": 0.2, "fast": 0.05}[model]
    context = ended_request(route=route, times=Times(first_token=first))
    assert missed_objectives(SLO, context, model, Ending("ok", 200)) == missed


def test_what_a_model_states_no_limit_for_is_its_routes() -> None:
    times = Times(first_token=0.005, decode=0.06, decode_tokens=1)
    context = ended_request(route="/v1/classify", times=times)
    context.arrival = time.monotonic() - 1.5
    missed = missed_objectives(SLO, context, "fast", Ending("ok", 200))
    assert missed == ["tpot", "e2e"]


@pytest.mark.parametrize(
    ("first", "tokens", "took", "missed"),
    [
        (0.5, 10, 0.5, []),
        (0.501, 10, 0.5, ["ttft"]),
        (0.5, 10, 0.51, ["tpot"]),
        (0.6, 10, 0.6, ["ttft", "tpot"]),
        (0.1, 0, 0.0, []),
    ],
)
def test_an_answer_is_held_against_its_limits(
    first: float, tokens: int, took: float, missed: list[str]
) -> None:
    times = Times(first_token=first, decode=took, decode_tokens=tokens)
    context = ended_request(times=times)
    assert missed_objectives(SLO, context, "m", Ending("ok", 200)) == missed


def test_the_whole_answer_has_its_limit() -> None:
    context = ended_request(route="/v1/classify", times=Times(first_token=0.01))
    assert missed_objectives(SLO, context, "m", Ending("ok", 200)) == []
    context.arrival = time.monotonic() - 1.5
    assert missed_objectives(SLO, context, "m", Ending("ok", 200)) == ["e2e"]


@pytest.mark.parametrize(
    ("failure", "missed"),
    [
        (QueueFull("full"), ["availability"]),
        (TooManyRequests("yours"), None),
        (DeadlineExceeded("late"), ["availability"]),
        (ServiceError(), ["availability"]),
        (InvalidRequest("bad"), None),
    ],
)
def test_only_the_services_own_faults_are_misses(
    failure: ServiceError, missed: list[str] | None
) -> None:
    ending = Ending(failure.outcome, failure.status, failure)
    assert missed_objectives(SLO, ended_request(), "m", ending) == missed


def test_who_left_early_counts_only_when_it_was_late_already() -> None:
    context = ended_request()
    assert missed_objectives(SLO, context, "m", Ending("cancelled", None)) is None
    context.arrival = time.monotonic() - 0.6
    assert missed_objectives(SLO, context, "m", Ending("cancelled", None)) == ["ttft"]


def test_routes_without_inference_promise_nothing() -> None:
    assert missed_objectives(SLO, ended_request(route="/health"), "none", Ending("ok", 200)) is None
