"""The probability of being right in the answers of POST /v1/generate, and answers withheld."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.confidence import ConfidenceMap
from tests.adapters.proven import served_base, sources
from tests.adapters.samples import write_base
from tests.answers import events_of, refusal
from tests.evaluation.calibration.samples import CONFIDENCE, generator
from tests.live_service import MODEL, LiveService

PATH = "/v1/generate"


@pytest.fixture
async def live(tmp_path: Path) -> AsyncGenerator[LiveService, None]:
    """A service with an adapter that has a confidence map, and one that has none."""
    base_folder = write_base(tmp_path / "base")
    base = served_base(base_folder)
    generator(tmp_path / "sure", base, confidence=CONFIDENCE)
    generator(tmp_path / "plain", base)
    with LiveService(
        model_path=base_folder,
        adapters=sources(tmp_path / "sure", tmp_path / "plain"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as service:
        yield service


async def post(live: LiveService, **fields: Any) -> httpx.Response:
    body = {"model": "sure", "prompt": "Tell me", "temperature": 0} | fields
    async with live.client() as client:
        return await client.post(PATH, json=body)


async def output(live: LiveService, **fields: Any) -> dict[str, Any]:
    answer = await post(live, **fields)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["outputs"]
    return dict(found)


async def test_a_greedy_answer_has_the_probability_of_the_map(live: LiveService) -> None:
    confidence = (await output(live, confidence=True))["confidence"]
    told = confidence.pop("p_correct")
    assert told == pytest.approx(ConfidenceMap(**CONFIDENCE).p_correct(confidence))
    streamed = await post(live, confidence=True, stream=True)
    assert events_of(streamed)[-2]["confidence"] == [confidence | {"p_correct": told}]


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1.0},
        {"model": "plain"},
        {"model": MODEL},
        {"max_tokens": 1},
        {"frequency_penalty": 1.0},
        {"stop": "never"},
        {"response_format": {"type": "choice", "choice": ["a", "b"]}},
    ],
)
async def test_other_answers_have_none(live: LiveService, fields: dict[str, Any]) -> None:
    found = await output(live, confidence=True, **fields)
    assert found["confidence"]["mean_token_logprob"] <= 0
    assert found["confidence"]["p_correct"] is None


async def test_less_than_asked_for_is_withheld_counted_and_used(live: LiveService) -> None:
    given = await post(live, min_confidence=0)
    withheld = await post(live, min_confidence=1)
    (text,), (none,) = given.json()["outputs"], withheld.json()["outputs"]
    assert text["text"]
    assert text["finish_reason"] == "stop"
    assert (none["text"], none["finish_reason"]) == ("", "abstained")
    assert none["confidence"] == text["confidence"]
    assert withheld.json()["usage"]["completion_tokens"] > 0
    assert withheld.json()["usage"] == given.json()["usage"]
    assert live.value("inference_generation_abstentions_total", model="sure") == 1
    assert live.value("inference_generation_score_count", model="sure") == 2


async def test_a_cut_answer_is_withheld_because_nothing_is_known_of_it(live: LiveService) -> None:
    found = await output(live, min_confidence=0, max_tokens=1)
    assert (found["text"], found["finish_reason"]) == ("", "abstained")


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"model": "plain"}, "unsupported", "has no confidence map"),
        ({"model": MODEL}, "unsupported", "has no confidence map"),
        ({"stream": True}, "invalid_value", "stream must be false, got true"),
        ({"temperature": 0.5}, "invalid_value", "temperature must be 0, got 0.5"),
        ({"presence_penalty": 1.5}, "invalid_value", "presence_penalty must be 0, got 1.5"),
        ({"repetition_penalty": 1.5}, "invalid_value", "repetition_penalty must be 1, got 1.5"),
        ({"stop": "x"}, "invalid_value", "stop must be empty"),
        (
            {"response_format": {"type": "regex", "regex": "a"}},
            "invalid_value",
            "response_format must be text, got regex",
        ),
        ({"min_confidence": 1.5}, "invalid_value", "min_confidence"),
    ],
)
async def test_what_cannot_be_judged_is_refused(
    live: LiveService, fields: dict[str, Any], code: str, told: str
) -> None:
    answer = await post(live, **({"min_confidence": 0.5} | fields))
    error = refusal(answer, answer.status_code)
    assert answer.status_code in (400, 422)
    assert (error["code"], error["param"]) == (code, "min_confidence")
    assert told in error["message"]
