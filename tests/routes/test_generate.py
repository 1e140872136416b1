"""POST /v1/generate, whole and streamed."""

from collections import defaultdict
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.errors import EngineDead
from tests.answers import error_of, events_of, refusal
from tests.live_service import LiveService

PATH = "/v1/generate"


def body(**fields: Any) -> dict[str, Any]:
    prompt = {} if "messages" in fields else {"prompt": "Tell me"}
    return {"model": "fake", "temperature": 0.0, **prompt, **fields}


async def answer(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(PATH, json=body(**fields))
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


async def test_a_whole_answer_has_every_part_of_the_contract(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json=body(), headers={"X-Request-Id": "mine"})
    result = response.json()
    assert result.keys() == {"id", "model", "created", "outputs", "usage", "timing"}
    assert (result["id"], result["model"]) == ("mine", "fake")
    (output,) = result["outputs"]
    assert (output["index"], output["finish_reason"]) == (0, "stop")
    assert output["text"]
    assert result["usage"] == {
        "prompt_tokens": 8,
        "completion_tokens": len(output["text"].split()),
        "cached_tokens": 0,
    }
    assert result["timing"].keys() == {"service_tier", "queue_ms", "ttft_ms", "total_ms"}
    assert 0 <= result["timing"]["ttft_ms"] <= result["timing"]["total_ms"]


async def test_a_streamed_answer_is_the_whole_one_in_pieces(client: httpx.AsyncClient) -> None:
    fields = {"n": 3, "seed": 7, "temperature": 1.0, "confidence": True}
    whole = await answer(client, **fields)
    response = await client.post(PATH, json=body(stream=True, **fields))
    *deltas, summary, done = events_of(response)
    texts: dict[int, str] = defaultdict(str)
    reasons = {}
    for delta in deltas:
        assert delta.keys() == {"id", "index", "text", "finish_reason"}
        texts[delta["index"]] += delta["text"]
        if delta["finish_reason"]:
            reasons[delta["index"]] = delta["finish_reason"]
    assert done == "[DONE]"
    assert summary["usage"] == whole["usage"]
    assert summary["timing"].keys() == whole["timing"].keys()
    outputs = whole["outputs"]
    assert [texts[o["index"]] for o in outputs] == [o["text"] for o in outputs]
    assert [reasons[o["index"]] for o in outputs] == [o["finish_reason"] for o in outputs]
    assert summary["confidence"] == [o["confidence"] for o in outputs]
    assert response.headers["x-request-id"] == summary["id"]
    assert response.headers["cache-control"] == "no-cache"


async def test_greedy_answers_repeat_and_seeds_decide_the_others(
    client: httpx.AsyncClient,
) -> None:
    def text(result: dict[str, Any]) -> str:
        return str(result["outputs"][0]["text"])

    greedy = {text(await answer(client)) for _ in range(3)}
    seeded = {text(await answer(client, temperature=1.0, seed=1)) for _ in range(3)}
    other = text(await answer(client, temperature=1.0, seed=2))
    assert (len(greedy), len(seeded)) == (1, 1)
    assert other not in seeded


async def test_n_answers_come_in_order(client: httpx.AsyncClient) -> None:
    result = await answer(client, n=4, temperature=1.0, seed=1)
    assert [output["index"] for output in result["outputs"]] == [0, 1, 2, 3]
    assert len({output["text"] for output in result["outputs"]}) == 4


@pytest.mark.parametrize("as_list", [False, True])
async def test_a_stop_string_ends_the_answer_before_it(
    client: httpx.AsyncClient, as_list: bool
) -> None:
    text = (await answer(client))["outputs"][0]["text"]
    stop = text.split()[2]
    (output,) = (await answer(client, stop=[stop] if as_list else stop))["outputs"]
    assert output["text"] == text[: text.index(stop)]
    assert output["finish_reason"] == "stop"


async def test_max_tokens_cuts_the_answer(client: httpx.AsyncClient) -> None:
    result = await answer(client, max_tokens=1)
    assert result["outputs"][0]["finish_reason"] == "length"
    assert result["usage"]["completion_tokens"] == 1


async def test_confidence_is_there_when_asked_for_and_only_then(
    client: httpx.AsyncClient,
) -> None:
    (output,) = (await answer(client, confidence=True))["outputs"]
    (plain,) = (await answer(client))["outputs"]
    confidence = output["confidence"]
    assert confidence.keys() == {
        "sequence_logprob",
        "mean_token_logprob",
        "min_token_probability",
        "mean_entropy",
        "agreement",
        "p_correct",
    }
    assert confidence["sequence_logprob"] <= confidence["mean_token_logprob"] <= 0
    assert 0 < confidence["min_token_probability"] <= 1
    assert confidence["mean_entropy"] >= 0
    assert confidence["p_correct"] is None  # the base model has no map
    assert plain["confidence"] is None


async def test_a_choice_is_one_of_the_given(client: httpx.AsyncClient) -> None:
    choice = {"type": "choice", "choice": ["red", "green", "blue"]}
    result = await answer(client, response_format=choice)
    assert result["outputs"][0]["text"] in choice["choice"]


async def test_messages_are_a_conversation(client: httpx.AsyncClient) -> None:
    system, user = ({"role": role, "content": "Tell me"} for role in ("system", "user"))
    short, long = [await answer(client, messages=m) for m in ([user], [system, user])]
    assert long["usage"]["prompt_tokens"] > short["usage"]["prompt_tokens"] > 8


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_not_found_and_never_the_base(
    client: httpx.AsyncClient, service: LiveService, stream: bool
) -> None:
    before = service.engine.starts
    error = refusal(await client.post(PATH, json=body(model="gpt-4", stream=stream)), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert service.engine.starts == before


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (RuntimeError("/secret/path"), "internal"),
        (EngineDead("The engine ended.", retry_after=5), "engine_dead"),
    ],
)
async def test_a_failure_in_mid_stream_is_an_event_and_the_end(
    failure: Exception, code: str
) -> None:
    with LiveService() as live:
        live.engine.failure, live.engine.spared = failure, 2
        async with live.client() as client:
            response = await client.post(PATH, json=body(stream=True))
        assert live.idle()
        outcome = {"route": PATH, "model": "fake", "outcome": "error"}
        await eventually(lambda: live.value("inference_requests_total", **outcome) == 1)
    *deltas, last = events_of(response)
    error = error_of(last)
    assert len(deltas) == 2
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["code"] == code
    assert "secret" not in response.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status"), [(RuntimeError("/secret/path"), 500), (EngineDead("It ended."), 503)]
)
async def test_a_failure_before_the_first_token_has_a_status(
    failure: Exception, status: int, stream: bool
) -> None:
    with LiveService() as live:
        live.engine.failure = failure
        async with live.client() as client:
            response = await client.post(PATH, json=body(stream=stream))
        assert live.idle()
    error = refusal(response, status)
    assert "secret" not in error["message"]
