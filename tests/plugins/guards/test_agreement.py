"""Agreement of sampled answers in POST /v1/generate, read by the map that was fitted with it."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.confidence import AgreementMap
from service.adapters.golden_score import agreement
from tests.adapters.proven import served_base, sources
from tests.adapters.samples import write_base
from tests.answers import refusal
from tests.evaluation.calibration.samples import AGREEMENT, CONFIDENCE, generator
from tests.live_service import MODEL, LiveService
from tests.plugins.guards.test_input_guards import GUARDS

SAMPLES = AGREEMENT["siblings"]["samples"]
WITH_AGREEMENT = CONFIDENCE | {"match": "token", "agreement": AGREEMENT}
WIDE = AGREEMENT | {"siblings": {"samples": 12, "temperature": 1.0}}


@pytest.fixture
async def live(tmp_path: Path) -> AsyncGenerator[LiveService, None]:
    """Adapters with a map of agreement, with one of more samples than allowed, and without.

    A guard reads every answer.
    """
    base_folder = write_base(tmp_path / "base")
    base = served_base(base_folder)
    generator(tmp_path / "compared", base, confidence=WITH_AGREEMENT)
    generator(tmp_path / "wide", base, confidence=CONFIDENCE | {"agreement": WIDE})
    generator(tmp_path / "sure", base, confidence=CONFIDENCE)
    with LiveService(
        model_path=base_folder,
        adapters=sources(tmp_path / "compared", tmp_path / "wide", tmp_path / "sure"),
        adapter_cache={"path": tmp_path / "cache"},
        encoders=[{"name": "classify", "path": "unused"}],
        guards={"named": GUARDS, "default": {"output": ["never"]}},
        limits={"n": 8},
    ) as service:
        yield service


async def post(live: LiveService, **fields: Any) -> httpx.Response:
    body = {"model": "compared", "prompt": "Tell me", "temperature": 0} | fields
    async with live.client() as client:
        return await client.post("/v1/generate", json=body)


async def answered(live: LiveService, **fields: Any) -> dict[str, Any]:
    answer = await post(live, **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_it_is_the_share_of_samples_that_are_the_answer(live: LiveService) -> None:
    shares = set()
    for prompt in ("Tell me", "Tell me 14"):  # to the second one sample agrees
        drawn = [
            await answered(live, prompt=prompt, temperature=1.0, seed=seed)
            for seed in range(SAMPLES)
        ]
        texts = [each["outputs"][0]["text"] for each in drawn]
        (output,) = (await answered(live, prompt=prompt, agreement=True))["outputs"]
        told = output["confidence"]
        assert told["agreement"] == agreement(output["text"], texts, "token")
        fitted = AgreementMap.model_validate(AGREEMENT)
        assert told.pop("p_correct") == pytest.approx(fitted.p_correct(told))
        shares.add(told["agreement"])
    assert shares == {0, 1 / SAMPLES}


async def test_without_it_the_map_of_the_answer_alone_holds(live: LiveService) -> None:
    alone = await answered(live, confidence=True)
    compared = await answered(live, agreement=True)
    (one,), (other,) = alone["outputs"], compared["outputs"]
    assert one["text"] == other["text"]
    assert one["confidence"]["agreement"] is None
    assert one["confidence"]["p_correct"] != other["confidence"]["p_correct"]
    assert one["confidence"]["mean_entropy"] == other["confidence"]["mean_entropy"]


async def test_the_samples_are_used_admitted_with_the_answer_and_read_by_no_guard(
    live: LiveService,
) -> None:
    alone = await answered(live, confidence=True)
    read = live.value("inference_guard_held_seconds_count")
    starts = live.engine.starts
    compared = await answered(live, agreement=True)
    assert live.engine.starts == starts + 1 + SAMPLES
    assert live.value("inference_guard_held_seconds_count") == read + 1
    one, all_of_them = alone["usage"], compared["usage"]
    assert all_of_them["prompt_tokens"] == (1 + SAMPLES) * one["prompt_tokens"]
    assert all_of_them["completion_tokens"] > one["completion_tokens"] + SAMPLES
    counted = live.value("inference_tokens_total", model="compared", kind="completion")
    assert counted == one["completion_tokens"] + all_of_them["completion_tokens"]


async def test_work_that_gives_way_can_be_compared_though_it_may_not_ask_for_several_answers(
    live: LiveService,
) -> None:
    several = await post(live, temperature=1.0, n=SAMPLES, service_tier="flex")
    assert refusal(several, 400)["param"] == "n"
    compared = await answered(live, agreement=True, service_tier="flex")
    plain = await answered(live, agreement=True)
    assert compared["timing"]["service_tier"] == "flex"
    assert compared["outputs"] == plain["outputs"]


async def test_less_than_asked_for_is_withheld_by_the_map_of_agreement(live: LiveService) -> None:
    (told,) = (await answered(live, agreement=True))["outputs"]
    (alone,) = (await answered(live, confidence=True))["outputs"]
    least, most = sorted(each["confidence"]["p_correct"] for each in (told, alone))
    between = (least + most) / 2
    outputs = [
        (await answered(live, min_confidence=between, agreement=each))["outputs"][0]
        for each in (True, False)
    ]
    assert {each["finish_reason"] for each in outputs} == {"stop", "abstained"}


async def test_a_cut_answer_is_compared_with_nothing(live: LiveService) -> None:
    starts = live.engine.starts
    answer = await answered(live, agreement=True, max_tokens=1)
    confidence = answer["outputs"][0]["confidence"]
    assert (confidence["agreement"], confidence["p_correct"]) == (None, None)
    assert live.engine.starts == starts + 1
    assert answer["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"model": "sure"}, "unsupported", "no confidence map of agreement"),
        ({"model": MODEL}, "unsupported", "`llm-service calibrate --agreement N` fits one"),
        ({"stream": True}, "invalid_value", "stream must be false, got true"),
        ({"temperature": 0.5}, "invalid_value", "temperature must be 0, got 0.5"),
        ({"model": "wide"}, "invalid_value", "needs 12 sampled answers, limits.n allows 8"),
    ],
)
async def test_what_cannot_be_compared_is_refused(
    live: LiveService, fields: dict[str, Any], code: str, told: str
) -> None:
    error = refusal(await post(live, agreement=True, **fields), 400)
    assert (error["code"], error["param"]) == (code, "agreement")
    assert told in error["message"]
