"""Tools of Responses and Messages, on an engine that parses calls.

The one-layer model writes no call of its own: required and named ones are held by the grammar.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.engine.named_events import events_of
from tests.served.configuration import ENGINE
from tests.served.server import PATIENT, Server, running_server

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Tokyo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
TOOL: Any = {"name": "weather", "input_schema": WEATHER, "strict": True}
# A trained model ends here; this one would go on to another call.
END = ["</tool_call>"]
ASK: Any = {"messages": [{"role": "user", "content": "How is the weather?"}], "max_tokens": 256}


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = {"dtype": "float32", "enable_auto_tool_choice": True, "tool_call_parser": "hermes"}
    # White space between the tokens of JSON could go on to the longest answer.
    structures = {"structured_outputs_config": {"disable_any_whitespace": True}}
    config = PATIENT | {
        "model": {"name": "tiny", "path": str(tiny_folder)},
        "engine": ENGINE | engine | structures,
    }
    with running_server(tmp_path_factory.mktemp("tools"), config) as running:
        yield running


def is_weather(arguments: dict[str, Any]) -> bool:
    return arguments.keys() == {"city"} and arguments["city"] in ("Paris", "Tokyo")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_calls_a_function(server: Server, choice: Any, stream: bool) -> None:
    options: Any = {
        **{"model": "tiny", "input": "How is the weather?", "tools": [FUNCTION]},
        **{
            "tool_choice": choice,
            "parallel_tool_calls": False,
            "max_output_tokens": 256,
            "extra_body": {"stop": END},
        },
    }
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        if stream:
            *events, last = client.responses.create(**options, stream=True)
            answer = last.response
            deltas = [e for e in events if e.type == "response.function_call_arguments.delta"]
            done = next(e for e in events if e.type == "response.function_call_arguments.done")
            assert "".join(delta.delta for delta in deltas) == done.arguments
        else:
            answer = client.responses.create(**options)
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, answer.status) == ("weather", "completed")
    assert is_weather(json.loads(call.arguments))
    assert call.call_id


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_message_uses_a_tool(server: Server, choice: Any, stream: bool) -> None:
    options: Any = ASK | {"model": "tiny", "tools": [TOOL]}
    options["tool_choice"] = choice | {"disable_parallel_tool_use": True}
    options["stop_sequences"] = END
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        if stream:
            with client.messages.stream(**options) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**options)
    (used,) = [block for block in answer.content if block.type == "tool_use"]
    assert (used.name, answer.stop_reason) == ("weather", "tool_use")
    assert is_weather(used.input)
    assert used.id


def test_a_tool_streams_in_a_block_of_its_own(server: Server) -> None:
    body = ASK | {"model": "tiny", "tools": [TOOL], "stop_sequences": END, "stream": True}
    body["tool_choice"] = {"type": "any"}
    events = events_of(server.post("/v1/messages", body))
    start = next(e for e in events if e.get("content_block", {}).get("type") == "tool_use")
    assert start["content_block"]["input"] == {}
    parts = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert {part["type"] for part in parts} == {"input_json_delta"}
    assert is_weather(json.loads("".join(part["partial_json"] for part in parts)))
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_the_longest_answer_cuts_is_text(server: Server) -> None:
    body = ASK | {"model": "tiny", "tools": [TOOL], "max_tokens": 3, "tool_choice": {"type": "any"}}
    answer = server.post("/v1/messages", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stop_reason"] == "max_tokens"
    assert {block["type"] for block in answer.json()["content"]} == {"text"}


@pytest.mark.parametrize("kind", ["auto", "none", None])
def test_where_no_call_is_asked_for_text_is_an_answer(server: Server, kind: str | None) -> None:
    fields: dict[str, Any] = {"tool_choice": {"type": kind}} if kind else {}
    answer = server.post("/v1/messages", ASK | {"model": "tiny", "tools": [TOOL]} | fields)
    assert answer.status_code == 200, answer.text
    body = {"model": "tiny", "input": "Hi", "max_output_tokens": 8, "tools": [FUNCTION]}
    answer = server.post("/v1/responses", body | ({"tool_choice": kind} if kind else {}))
    assert answer.json()["output"][0]["type"] == "message", answer.text


def test_results_of_tools_are_read(server: Server) -> None:
    called: list[dict[str, Any]] = [
        *ASK["messages"],
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather",
                                           "input": {"city": "Paris"}}]},
    ]  # fmt: skip

    def tokens(result: str) -> int:
        block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": result}
        messages = [*called, {"role": "user", "content": [block]}]
        body = ASK | {"model": "tiny", "messages": messages, "max_tokens": 1, "tools": [TOOL]}
        return int(server.post("/v1/messages", body).json()["usage"]["input_tokens"])

    assert tokens("It rains, and it will rain.") > tokens("Sun.")
