"""OpenAI's chats and completions over the fake engine: whole, streamed, refused, ended early."""

import json
from typing import Any

import httpx
import openai
import pytest

from service.errors import EngineDead
from service.openai.answers import ChatCompletion, Completion
from tests.answers import refusal
from tests.live_service import LiveService

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "fake", "messages": HELLO, "max_tokens": 8, "temperature": 0},
    "/v1/completions": {"model": "fake", "prompt": "Hi", "max_tokens": 8, "temperature": 0},
}
LIGHT = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}


async def post(service: LiveService, path: str = CHAT, **fields: Any) -> httpx.Response:
    async with service.client() as client:
        return await client.post(path, json=BODIES[path] | fields)


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream that ended well."""
    assert answer.status_code == 200, answer.text
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def text_of(choice: dict[str, Any]) -> str:
    said = choice.get("message") or choice.get("delta") or choice
    return str(said.get("content") or said.get("text") or "")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", [{}, {"n": 3, "temperature": 1, "seed": 1}, {"stop": " a"}])
async def test_a_stream_adds_up_to_the_whole_answer(
    service: LiveService, path: str, fields: dict[str, Any]
) -> None:
    whole = (await post(service, path, **fields)).json()
    (ChatCompletion if path == CHAT else Completion).model_validate(whole)
    options = {"include_usage": True}
    *events, last = events_of(
        await post(service, path, stream=True, stream_options=options, **fields)
    )
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    for choice in whole["choices"]:
        parts = [each["choices"][0] for each in events]
        mine = [each for each in parts if each["index"] == choice["index"]]
        assert "".join(map(text_of, mine)) == text_of(choice)
        assert mine[-1]["finish_reason"] == choice["finish_reason"]


async def test_several_prompts_have_answers_each(service: LiveService) -> None:
    fields = {"prompt": ["Hi", "Hu", "Ho"], "echo": True}
    choices = (await post(service, "/v1/completions", **fields)).json()["choices"]
    assert [each["index"] for each in choices] == [0, 1, 2]
    assert [each["text"][:2] for each in choices] == ["Hi", "Hu", "Ho"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("named", [False, True])
async def test_a_demanded_call_is_told(service: LiveService, stream: bool, named: bool) -> None:
    choice = {"type": "function", "function": {"name": "light"}} if named else "required"
    answer = await post(service, tools=[LIGHT], tool_choice=choice, stream=stream)
    if stream:
        said = [each["choices"][0] for each in events_of(answer)]
        (call,) = [call for each in said for call in each["delta"].get("tool_calls", ())]
        assert said[-1]["finish_reason"] == ("stop" if named else "tool_calls")
    else:
        ((call,),) = [each["message"]["tool_calls"] for each in answer.json()["choices"]]
    assert call["function"] == {"name": "light", "arguments": "{}"}


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_come_with_each_token(service: LiveService, stream: bool) -> None:
    answer = await post(service, logprobs=True, top_logprobs=2, stream=stream)
    choices = (
        [each["choices"][0] for each in events_of(answer)] if stream else answer.json()["choices"]
    )
    told = [each["logprobs"]["content"] for each in choices if each["logprobs"]]
    places = [place for each in told for place in each]
    assert "".join(place["token"] for place in places) == "".join(map(text_of, choices))
    assert {len(place["top_logprobs"]) for place in places} == {2}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_prompt_is_told_as_the_template_wrote_it(
    service: LiveService, stream: bool
) -> None:
    answer = await post(service, return_prompt_text=True, stream=stream)
    told = events_of(answer)[0] if stream else answer.json()
    assert "user\nHi" in told["prompt_text"]


@pytest.mark.parametrize("path", BODIES)
async def test_an_engine_that_ends_midway_ends_the_stream_with_its_error(
    service: LiveService, path: str
) -> None:
    service.engine.spared, service.engine.failure = 2, EngineDead.midway()
    try:
        answer = await post(service, path, stream=True, ignore_eos=True)
    finally:
        service.engine.failure = None
    assert answer.status_code == 200
    *_, last = answer.text.removesuffix("\n\n").split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_dead"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"unknown": 1}, "unknown"),
        ({"audio": {}}, "audio"),
        ({"n": 2}, "n"),
        ({"tools": [LIGHT], "tool_choice": {"function": {"name": "dark"}}}, "tool_choice"),
    ],
)
async def test_what_is_not_served_is_refused_by_its_place(
    service: LiveService, fields: dict[str, Any], param: str
) -> None:
    answer = await post(service, **fields)
    assert refusal(answer, 400)["param"] == param


async def test_openais_client_reads_both(service: LiveService) -> None:
    client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    body: dict[str, Any] = {"model": "fake", "messages": HELLO, "max_tokens": 8, "temperature": 0}
    async with client:
        whole = await client.chat.completions.create(**body)
        stream = await client.chat.completions.create(**body, stream=True)
        parts = [part.choices[0].delta.content or "" async for part in stream]
    assert "".join(parts) == whole.choices[0].message.content
