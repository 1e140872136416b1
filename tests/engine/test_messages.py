"""Anthropic's Messages on the real engine, by its own client and in the bodies of Claude Code."""

import json
from typing import Any

import anthropic
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsBase
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)

from service.plugins.messages.body import ANTHROPIC, CountTokensBody, MessagesBody
from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.named_events import events_of
from tests.engine.test_openai_client import SCHEMA
from tests.plugins.messages.test_answer import RECORDED
from tests.served.server import Server

ROUTE = "/v1/messages"
JAPAN: Any = {"messages": CAPITAL, "max_tokens": 32, "temperature": 0}
ASKED: Any = {"messages": CAPITAL, "max_tokens": 32, "extra_body": {"temperature": 0}}
"""The same by Anthropic's client, which has no argument for the temperature any more."""


@pytest.fixture
def client(smollm2: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=smollm2.url, api_key="none", max_retries=0)


def test_every_field_of_vllms_models_and_the_sdk_is_served_or_refused_for_a_reason() -> None:
    others = ANTHROPIC.hints | ANTHROPIC.no_ops.keys() | ANTHROPIC.refused.keys()
    known = MessagesBody.model_fields.keys() | others
    assert AnthropicMessagesRequest.model_fields.keys() <= known
    assert MessageCreateParamsBase.__annotations__.keys() <= known
    assert AnthropicCountTokensRequest.model_fields.keys() <= CountTokensBody.model_fields.keys()
    assert MessageCountTokensParams.__annotations__.keys() <= known


def test_a_message_answers(client: anthropic.Anthropic, smollm2: Server) -> None:
    answer = client.messages.create(model=smollm2.model, **ASKED)
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": TOKYO}]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.role, answer.type, answer.model) == ("assistant", "message", smollm2.model)
    usage = answer.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == 41
    assert usage.output_tokens == 9
    assert answer.id.startswith("msg_")
    assert answer._request_id == answer.id.removeprefix("msg_")
    counted = client.messages.count_tokens(model=smollm2.model, messages=JAPAN["messages"])
    assert counted.input_tokens == 41


def test_a_streamed_message_is_the_whole_one(client: anthropic.Anthropic, smollm2: Server) -> None:
    with client.messages.stream(model=smollm2.model, **ASKED) as stream:
        assert "".join(stream.text_stream) == TOKYO
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 9)


def test_a_prefilled_answer_goes_on(client: anthropic.Anthropic, smollm2: Server) -> None:
    """As Anthropic's API continues a last message of the assistant, without repeating it."""
    begun, rest = TOKYO[:20], TOKYO[20:]
    messages = [*JAPAN["messages"], {"role": "assistant", "content": begun.rstrip()}]
    asked = ASKED | {"messages": messages}
    answer = client.messages.create(model=smollm2.model, **asked)
    (block,) = answer.content
    assert begun.rstrip() + block.to_dict()["text"] == begun + rest


def test_prompts_have_as_many_tokens_as_were_recorded(smollm2: Server) -> None:
    asked = {name: each for name, each in RECORDED.items() if name.startswith("smol_")}
    counted = {}
    for name, each in asked.items():
        body = {
            key: each["body"][key] for key in each["body"].keys() & CountTokensBody.model_fields
        }
        answer = smollm2.post(f"{ROUTE}/count_tokens", body | {"model": smollm2.model})
        counted[name] = answer.json()
    assert counted == {name: {"input_tokens": each["tokens"]} for name, each in asked.items()}


def test_events_come_in_anthropics_order(smollm2: Server) -> None:
    body = {"model": smollm2.model, "stream": True, **JAPAN}
    events = events_of(smollm2.post(ROUTE, body))
    assert [event["type"] for event in events if event["type"] != "content_block_delta"] == [
        *("message_start", "content_block_start", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["stop_sequence"]) == ([], None, None)
    assert start["usage"]["input_tokens"] == 41
    assert events[1]["content_block"] == {"type": "text", "text": ""}
    assert {event["index"] for event in events[1:-2]} == {0}
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


async def test_the_async_client_streams(smollm2: Server) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=smollm2.url, api_key="none") as client,
        client.messages.stream(model=smollm2.model, **ASKED) as stream,
    ):
        assert "".join([text async for text in stream.text_stream]) == TOKYO


@pytest.mark.parametrize("stream", [False, True])
def test_what_ended_a_message_is_told(smollm2: Server, stream: bool) -> None:
    def ending(**fields: Any) -> tuple[str, str | None]:
        answer = smollm2.post(ROUTE, {"model": smollm2.model, "stream": stream} | JAPAN | fields)
        told = events_of(answer)[-2]["delta"] if stream else answer.json()
        return told["stop_reason"], told["stop_sequence"]

    stops = [f"<{number}>" for number in range(12)]
    assert ending(stop_sequences=[*stops, " of Japan"]) == ("stop_sequence", " of Japan")
    assert ending(stop_sequences=stops) == ("end_turn", None)
    assert ending(max_tokens=3) == ("max_tokens", None)
    assert ending(max_tokens=10**9) == ("end_turn", None)


def test_a_json_schema_is_kept(client: anthropic.Anthropic, smollm2: Server) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    options = ASKED | {"max_tokens": 64}
    answer: Any = client.messages.create(model=smollm2.model, output_config=form, **options)
    assert json.loads(answer.content[0].text).keys() == {"city"}


def test_a_classification_adapter_holds_no_conversation(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="call /v1/classify"):
        client.messages.create(model="sentiment", **ASKED)
    with pytest.raises(anthropic.BadRequestError, match="call /v1/classify"):
        client.messages.count_tokens(model="sentiment", messages=JAPAN["messages"])
