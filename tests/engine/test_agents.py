"""Bodies of Codex and Claude Code, and of their likes, on the real engine."""

from typing import Any

import httpx
import pytest

from service.plugins.messages.body import CountTokensBody
from tests.answers import refusal
from tests.engine.named_events import events_of
from tests.served.server import Server

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
FUNCTION: dict[str, Any] = {
    **{"type": "function", "name": "shell", "description": "Runs a command.", "strict": False},
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "array", "items": {"type": "string"}}},
        "required": ["command"],
        "additionalProperties": False,
    },
}
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
LONG = [{"role": "user", "content": "a " * 3000}]


CODEX: dict[str, Any] = {
    "instructions": "You are a coding agent running in a terminal.",
    "input": [
        {
            **{"type": "message", "role": "developer"},
            "content": [{"type": "input_text", "text": "Filesystem sandboxing: read-only."}],
        },
        {
            **{"type": "message", "role": "user"},
            "content": [{"type": "input_text", "text": "<cwd>/srv/app</cwd>"}],
        },
        {
            **{"type": "message", "role": "user"},
            "content": [{"type": "input_text", "text": "List the files."}],
        },
    ],
    "tools": [FUNCTION],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": None,
    "store": False,
    "stream": True,
    "include": [],
    "prompt_cache_key": "0199f5c4",
    "client_metadata": {"installation": "a"},
    "service_tier": None,
    "text": None,
}
"""A turn of Codex CLI, which sends no maximum."""
CALLED = [
    {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
    {
        **{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell"},
        **{"arguments": '{"command": ["ls"]}', "status": "completed"},
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "README.md"},
    {
        **{"type": "message", "role": "assistant", "id": "msg_1", "status": "completed"},
        "content": [{"type": "output_text", "text": "README.md", "annotations": []}],
    },
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
]


@pytest.mark.parametrize("history", [[], CALLED], ids=["first", "later"])
def test_a_turn_of_codex_is_answered(tiny: Server, history: list[Any]) -> None:
    body = CODEX | {"model": "tiny", "input": CODEX["input"] + history, "max_output_tokens": 8}
    events = events_of(tiny.post(RESPONSES, body, headers={"accept": "text/event-stream"}))
    assert events[0]["type"] == "response.created"
    assert events[-1]["response"]["usage"]["output_tokens"] == 8
    assert events[-1]["response"]["tools"][0]["name"] == "shell"


def test_what_was_said_is_read_to_its_end(tiny: Server) -> None:
    def tokens(*parts: str) -> int:
        said = [{"type": "output_text", "text": part} for part in parts]
        items = [{"role": "assistant", "content": said}, {"role": "user", "content": "a"}]
        body = {"model": "tiny", "input": items, "max_output_tokens": 1}
        return int(tiny.post(RESPONSES, body).json()["usage"]["input_tokens"])

    assert tokens("one two", " three four") == tokens("one two three four") > tokens("one two")


def test_thinking_is_switched_off_in_a_response(tiny: Server) -> None:
    def tokens(**fields: Any) -> int:
        body = {"model": "tiny", "input": "hi", "max_output_tokens": 1} | fields
        return int(tiny.post(RESPONSES, body).json()["usage"]["input_tokens"])

    off = tokens(chat_template_kwargs={"enable_thinking": False})
    assert tokens(reasoning={"effort": "none"}) == off > tokens()
    assert tokens(reasoning={"effort": "low", "summary": "auto"}) == tokens()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [FUNCTION], "tool_choice": "required"}, "tool_choice"),
        ({"input": [{"role": "nobody", "content": "a"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": "a"}, {"type": "function_call"}]},
            "input[1].call_id",
        ),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, None),
        ({"include": ["everything"]}, None),
        ({"input": "a " * 3000}, None),
    ],
)
def test_what_is_not_served_is_refused_before_a_stream_begins(
    tiny: Server, fields: dict[str, Any], param: str | None, stream: bool
) -> None:
    answer = tiny.post(RESPONSES, {"model": "tiny", "input": "Hi", "stream": stream} | fields)
    error = refusal(answer, 400)
    assert param in (None, error["param"])


def test_a_response_is_counted_under_its_route(tiny: Server) -> None:
    tiny.post(RESPONSES, {"model": "tiny", "input": "Hi", "max_output_tokens": 1})
    metrics = httpx.get(f"{tiny.ops}/metrics").text
    assert any(
        f'route="{RESPONSES}"' in line and 'outcome="ok"' in line
        for line in metrics.splitlines()
        if line.startswith("inference_requests_total")
    )


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
    events = events_of(tiny.post(f"{MESSAGES}?beta=true", body, headers=HEADERS))
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"
    shared = body.keys() & CountTokensBody.model_fields.keys()
    counted = tiny.post(f"{MESSAGES}/count_tokens?beta=true", {key: body[key] for key in shared})
    assert counted.json() == {"input_tokens": events[0]["message"]["usage"]["input_tokens"]}


@pytest.mark.parametrize("more", [{}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}])
def test_thinking_is_switched_off_in_a_message(tiny: Server, more: dict[str, Any]) -> None:
    def tokens(**fields: Any) -> int:
        body = {"model": "tiny", **HI, "max_tokens": 1025, "stop_sequences": ["e"]} | fields
        return int(tiny.post(MESSAGES, body).json()["usage"]["input_tokens"])

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
    error = refusal(tiny.post(MESSAGES, {"model": "tiny", "stream": stream} | HI | fields), status)
    assert error["type"] == kind
    assert param in ("", error["param"])


def test_other_faults_have_anthropics_shape_too(tiny: Server) -> None:
    assert refusal(httpx.get(tiny.url + MESSAGES), 405)["type"] == "invalid_request_error"
    answer = httpx.post(
        tiny.url + MESSAGES, content="{", headers={"content-type": "application/json"}
    )
    assert refusal(answer, 400)["code"] == "invalid_json"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
