"""Anthropic's Messages on the real engine, by its own client and in the bodies of Claude Code."""

import json
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsBase
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)

from service.limits.anthropic_fields import COUNT, HINTS, MESSAGE, NO_OPS, REFUSED
from tests.answers import refusal
from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.test_openai_client import SCHEMA
from tests.engine.test_responses import events_of
from tools.served.server import Server

ROUTE = "/v1/messages"
TOOL: dict[str, Any] = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"command": {"type": "string", "description": "The command."}},
        "required": ["command"],
        "additionalProperties": False,
    },
}
HI: Any = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
JAPAN: Any = {"messages": CAPITAL, "max_tokens": 32, "temperature": 0}


LONG = [{"role": "user", "content": "a " * 3000}]


@pytest.fixture
def client(smollm2: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=smollm2.url, api_key="none", max_retries=0)


def test_every_field_of_vllms_models_and_the_sdk_is_served_or_refused_for_a_reason() -> None:
    known = MESSAGE.keys() | HINTS | NO_OPS.keys() | REFUSED.keys()
    assert AnthropicMessagesRequest.model_fields.keys() <= known
    assert MessageCreateParamsBase.__annotations__.keys() <= known
    assert MESSAGE.keys() <= AnthropicMessagesRequest.model_fields.keys()
    assert AnthropicCountTokensRequest.model_fields.keys() == COUNT.keys()
    assert MessageCountTokensParams.__annotations__.keys() <= known


def test_a_message_answers(client: anthropic.Anthropic, smollm2: Server) -> None:
    answer = client.messages.create(model=smollm2.model, **JAPAN)
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
    with client.messages.stream(model=smollm2.model, **JAPAN) as stream:
        assert "".join(stream.text_stream) == TOKYO
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 9)


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
        client.messages.stream(model=smollm2.model, **JAPAN) as stream,
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
    options = JAPAN | {"max_tokens": 64}
    answer: Any = client.messages.create(model=smollm2.model, output_config=form, **options)
    assert json.loads(answer.content[0].text).keys() == {"city"}


KEPT = {"type": "ephemeral"}
CLAUDE_CODE: dict[str, Any] = {
    "model": "tiny",
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=abc;"},
        {"type": "text", "text": "You are a coding agent.", "cache_control": KEPT},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>Be short.</system-reminder>"},
                {"type": "text", "text": "List the files.", "cache_control": KEPT},
            ],
        }
    ],
    "tools": [TOOL, TOOL | {"name": "Read", "cache_control": KEPT}],
    "metadata": {"user_id": "user_1_account__session_2"},
    "max_tokens": 8,
    "temperature": 1,
    "thinking": {"type": "disabled"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stream": True,
}
WORKED = [
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I list them.", "signature": "abc"},
            {"type": "text", "text": "I will list them."},
            {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                **{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False},
                **{"content": [{"type": "text", "text": "README.md"}], "cache_control": KEPT},
            }
        ],
    },
]
HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "x-api-key": "sk-none",
    "x-app": "cli",
    "user-agent": "claude-cli/2.1.0 (external, cli)",
    "x-stainless-timeout": "600",
}


@pytest.mark.parametrize("history", [[], WORKED], ids=["first", "later"])
def test_a_turn_of_claude_code_is_answered(tiny: Server, history: list[Any]) -> None:
    body = CLAUDE_CODE | {"messages": CLAUDE_CODE["messages"] + history}
    events = events_of(tiny.post(f"{ROUTE}?beta=true", body, headers=HEADERS))
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"
    shared = body.keys() & COUNT.keys()
    counted = tiny.post(f"{ROUTE}/count_tokens?beta=true", {key: body[key] for key in shared})
    assert counted.json() == {"input_tokens": events[0]["message"]["usage"]["input_tokens"]}


@pytest.mark.parametrize("more", [{}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}])
def test_thinking_is_switched_off_as_in_a_chat(tiny: Server, more: dict[str, Any]) -> None:
    def tokens(**fields: Any) -> int:
        body = {"model": "tiny", **HI, "max_tokens": 1025, "stop_sequences": ["e"]} | fields
        return int(tiny.post(ROUTE, body).json()["usage"]["input_tokens"])

    off = tokens(chat_template_kwargs={"enable_thinking": False})
    assert tokens(thinking={"type": "disabled"}) == off > tokens(**more)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "kind", "param"),
    [
        ({"model": "none"}, 404, "not_found_error", "model"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
        ({"seed": 3}, 400, "invalid_request_error", "seed"),
        (
            {"messages": [{"role": "user", "content": "a " * 3000}]},
            400,
            "invalid_request_error",
            "",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, 400, "invalid_request_error", ""),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            *(400, "invalid_request_error", "tools[0].type"),
        ),
        ({"messages": [{"role": "user", "content": "a" * 2**21}]}, 413, "request_too_large", ""),
    ],
)
def test_a_refusal_has_anthropics_shape_and_comes_before_a_stream(
    tiny: Server, fields: dict[str, Any], status: int, kind: str, param: str, stream: bool
) -> None:
    error = refusal(tiny.post(ROUTE, {"model": "tiny", "stream": stream} | HI | fields), status)
    assert error["type"] == kind
    assert param in ("", error["param"])


def test_other_faults_have_anthropics_shape_too(tiny: Server) -> None:
    assert refusal(httpx.get(tiny.url + ROUTE), 405)["type"] == "invalid_request_error"
    answer = httpx.post(tiny.url + ROUTE, content="{", headers={"content-type": "application/json"})
    assert refusal(answer, 400)["code"] == "invalid_json"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


def test_a_classification_adapter_holds_no_conversation(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="call /v1/classify"):
        client.messages.create(model="sentiment", **JAPAN)
    with pytest.raises(anthropic.BadRequestError, match="call /v1/classify"):
        client.messages.count_tokens(model="sentiment", messages=JAPAN["messages"])
