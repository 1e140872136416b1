"""OpenAI's Responses over the fake engine: whole, streamed, refused, and ended by an error."""

import json
from typing import Any

import httpx
import pytest

from service.errors import DeadlineExceeded, EngineDead
from service.plugins.responses.described import ResponseAnswer
from service.plugins.responses.plugin import NumberedErrors
from tests.answers import refusal
from tests.live_service import LiveService

ROUTE = "/v1/responses"
ASKED: dict[str, Any] = {"model": "fake", "input": "Hi", "max_output_tokens": 8, "temperature": 0}
TOOL = {"type": "function", "name": "light", "parameters": {"type": "object"}}


async def post(service: LiveService, **fields: Any) -> httpx.Response:
    async with service.client() as client:
        return await client.post(ROUTE, json=ASKED | fields)


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of numbered events, each with its type as its name."""
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.removesuffix("\n\n").split("\n\n")]
    data = [json.loads(line.removeprefix("data: ")) for _, line in blocks]
    assert [f"event: {each['type']}" for each in data] == [name for name, _ in blocks]
    assert [each["sequence_number"] for each in data] == list(range(len(data)))
    return data


async def test_a_response_is_whole(service: LiveService) -> None:
    answer = await post(service, instructions="Be short.", metadata={"a": "b"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    ResponseAnswer.model_validate(told)
    assert told["id"] == f"resp_{answer.headers['x-request-id']}"
    assert (told["model"], told["instructions"], told["store"]) == ("fake", "Be short.", False)
    assert told["usage"]["output_tokens"] <= told["max_output_tokens"] == 8
    ((item),) = told["output"]
    assert item["content"][0]["text"]


async def test_a_stream_ends_with_the_whole_response(service: LiveService) -> None:
    whole = (await post(service)).json()
    *events, last = events_of(await post(service, stream=True))
    ended = last["response"]
    assert last["type"] == f"response.{whole['status']}"
    text = "".join(each["delta"] for each in events if each["type"].endswith("text.delta"))
    assert [part["text"] for part in whole["output"][0]["content"]] == [text]
    for each in (whole, ended):
        each["id"] = each["created_at"] = each["output"][0]["id"] = None
    assert ended == whole


@pytest.mark.parametrize("stream", [False, True])
async def test_a_function_is_called(service: LiveService, stream: bool) -> None:
    answer = await post(service, tools=[TOOL], tool_choice="required", stream=stream)
    told = events_of(answer)[-1]["response"] if stream else answer.json()
    (item,) = told["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "light", "{}")
    assert item["status"] == told["status"] == "completed"


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_come_where_they_are_included(
    service: LiveService, stream: bool
) -> None:
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = await post(service, **asked, stream=stream)
    told = events_of(answer)[-1]["response"] if stream else answer.json()
    tokens = told["output"][0]["content"][0]["logprobs"]
    assert len(tokens) == told["usage"]["output_tokens"]
    assert {len(token["top_logprobs"]) for token in tokens} == {2}


async def test_an_error_ends_a_stream_with_the_next_number(service: LiveService) -> None:
    service.engine.spared, service.engine.failure = 2, EngineDead("The engine has ended.")
    try:
        *events, last = events_of(await post(service, stream=True, ignore_eos=True))
    finally:
        service.engine.failure = None
    assert events[0]["type"] == "response.created"
    assert (last["type"], last["code"]) == ("error", "engine_dead")
    assert last["error"]["message"] == last["message"] == "The engine has ended."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"role": "nobody", "content": "a"}]}, "input[0].role"),
        ({"input": "a" * 600}, "prompt"),
        ({"model": "none"}, "model"),
    ],
)
async def test_a_refusal_comes_before_a_stream(
    service: LiveService, fields: dict[str, Any], param: str, stream: bool
) -> None:
    answer = await post(service, **fields, stream=stream)
    assert refusal(answer, 404 if param == "model" else 400)["param"] == param


async def test_its_tokens_are_counted_before_it_is_made(service: LiveService) -> None:
    fields = {"instructions": "Be short.", "tools": [TOOL]}
    made = (await post(service, **fields)).json()
    async with service.client() as client:
        counted = await client.post(f"{ROUTE}/input_tokens", json=ASKED | fields)
    told = {"object": "response.input_tokens", "input_tokens": made["usage"]["input_tokens"]}
    assert counted.json() == told


def test_an_error_of_a_response_has_the_next_number_and_the_one_shape() -> None:
    error = DeadlineExceeded("too late")
    name, value = NumberedErrors().event(error, "id-1", 3)
    assert (name, value["type"], value["sequence_number"]) == ("error", "error", 3)
    assert (value["code"], value["message"], value["param"]) == (error.code, "too late", None)
    assert value["error"] == error.body("id-1")["error"]
