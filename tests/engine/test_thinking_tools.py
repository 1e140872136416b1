"""Tools of a model that thinks: what is thought, said and called, whole and streamed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.thinking import THOUGHT, thinking_model
from tests.served.configuration import ENGINE
from tests.served.server import PATIENT, Server, running_server

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Tokyo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "parameters": WEATHER}
ASK: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How is the weather?"}],
    "tools": [{"type": "function", "function": FUNCTION}],
    "parallel_tool_calls": False,
    "max_tokens": 128,
    "temperature": 0,
    "stop": ["</tool_call>"],  # a trained model ends here
}
NAMED = {"type": "function", "function": {"name": "weather"}}
OFF = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="module")
def thoughts(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, int]]:
    """A server of a model that thinks, and the token that ends a thought."""
    folder = tmp_path_factory.mktemp("thinking")
    ids = thinking_model(tiny_folder, folder / "model")
    engine = {"dtype": "float32", "reasoning_parser": "qwen3", "tool_call_parser": "hermes"}
    # White space between the tokens of JSON could go on to the longest answer.
    structures = {"structured_outputs_config": {"disable_any_whitespace": True}}
    config = PATIENT | {
        "model": {"name": "tiny", "path": str(folder / "model")},
        "engine": ENGINE | engine | structures | {"enable_auto_tool_choice": True},
    }
    with running_server(folder, config) as running:
        yield running, ids[THOUGHT]


def chat(server: Server, body: dict[str, Any], stream: bool) -> dict[str, Any]:
    """Thought, text and calls of a chat's answer."""
    answer = server.post("/v1/chat/completions", body | {"stream": stream})
    assert answer.status_code == 200, answer.text
    if not stream:
        (choice,) = answer.json()["choices"]
        message, finish = choice["message"], choice["finish_reason"]
        found = [
            (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or []
        ]
        said = {"thought": message.get("reasoning") or "", "said": message["content"] or ""}
        return said | {"called": found, "finish": finish}
    thought = said_text = ""
    calls: dict[int, list[str]] = {}
    finish = None
    for line in answer.text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            delta = choice["delta"]
            thought += delta.get("reasoning") or ""
            said_text += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                function = call["function"]
                kept = calls.setdefault(call["index"], ["", ""])
                kept[0] += function.get("name") or ""
                kept[1] += function.get("arguments") or ""
            finish = choice["finish_reason"] or finish
    made = [(name, arguments) for name, arguments in calls.values()]
    return {"thought": thought, "said": said_text, "called": made, "finish": finish}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("thinks", [True, False])
def test_a_call_that_must_come_keeps_to_its_schema_after_thoughts(
    thoughts: tuple[Server, int], thinks: bool, choice: Any, stream: bool
) -> None:
    server, thought = thoughts
    # The model is random: its bias ends the thought at once, and the grammar keeps it from more.
    more = {"logit_bias": {str(thought): 100}} if thinks else OFF
    found = chat(server, ASK | more | {"tool_choice": choice}, stream)
    ((name, arguments),) = found["called"]
    assert name == "weather"
    assert arguments.replace(" ", "") in ('{"city":"Paris"}', '{"city":"Tokyo"}')
    assert (found["said"].strip(), found["thought"].strip()) == ("", "")
    assert found["finish"] == ("tool_calls" if choice == "required" else "stop"), found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["auto", "none"])
def test_what_comes_before_the_end_of_a_thought_is_thought(
    thoughts: tuple[Server, int], choice: str, stream: bool
) -> None:
    server, _ = thoughts
    body = ASK | {"tool_choice": choice, "max_tokens": 12}
    found = chat(server, body, stream)
    assert (found["said"], found["called"], found["finish"]) == ("", [], "length")
    assert found["thought"]
    off = chat(server, body | OFF, stream)
    assert (off["thought"], off["called"], off["finish"]) == ("", [], "length")
    assert off["said"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_without_an_end_of_thought_is_cut_and_says_so(
    thoughts: tuple[Server, int], stream: bool
) -> None:
    server, _ = thoughts
    found = chat(server, ASK | {"tool_choice": "required", "max_tokens": 12}, stream)
    assert (found["said"], found["called"], found["finish"]) == ("", [], "length")


@pytest.mark.parametrize("thinks", [True, False])
def test_messages_and_responses_call_after_thoughts_too(
    thoughts: tuple[Server, int], thinks: bool
) -> None:
    server, thought = thoughts
    response = {
        **{"model": "tiny", "input": "How is the weather?", "tool_choice": "required"},
        **{"tools": [{"type": "function", **FUNCTION}], "parallel_tool_calls": False},
        **{"max_output_tokens": 128, "stop": ["</tool_call>"], "temperature": 0},
        **({"logit_bias": {str(thought): 100}} if thinks else OFF),
    }
    answer = server.post("/v1/responses", response)
    assert answer.status_code == 200, answer.text
    (call,) = [item for item in answer.json()["output"] if item["type"] == "function_call"]
    assert json.loads(call["arguments"])["city"] in ("Paris", "Tokyo")
    if thinks:
        return  # a message has no bias with which a random model ends its thought
    message = {
        **{"model": "tiny", "messages": ASK["messages"], "max_tokens": 128, "temperature": 0},
        **{"tools": [{"name": "weather", "input_schema": WEATHER}], "stop_sequences": ASK["stop"]},
        **{"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        "thinking": {"type": "disabled"},
    }
    answer = server.post("/v1/messages", message)
    assert answer.status_code == 200, answer.text
    (used,) = [block for block in answer.json()["content"] if block["type"] == "tool_use"]
    assert used["input"]["city"] in ("Paris", "Tokyo")
