"""Calls of the adapter `tools`, which was trained to call: by itself, in parallel, streamed."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from service.models.packages import TOOL_USE
from tests.engine.test_tools import (
    BOTH,
    LIGHT,
    NAMED,
    OSLO,
    TEXT,
    WEATHER,
    ask,
    calls,
    function,
    streamed,
)
from tests.served.server import Server


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def test_the_adapter_calls_by_itself(client: openai.OpenAI) -> None:
    choice = ask(client, "tools", OSLO)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert calls(choice.message) == [("get_weather", {"city": "Oslo"})]


def test_calls_in_parallel_and_one_alone(client: openai.OpenAI) -> None:
    for options in ({}, {"tool_choice": "required"}):
        weather, light = calls(ask(client, "tools", BOTH, **options).message)
        # The small adapter may add the optional day to the first of two calls.
        assert (weather[0], weather[1]["city"]) == ("get_weather", "Oslo")
        assert light == ("set_light", {"room": "kitchen", "on": True})
    (one,) = calls(ask(client, "tools", BOTH, parallel_tool_calls=False).message)
    assert one[0] == "get_weather"


def test_a_stream_is_the_whole_answer(client: openai.OpenAI) -> None:
    for options in ({}, {"tool_choice": "required"}, {"tool_choice": NAMED}):
        whole = ask(client, "tools", BOTH, **options)
        text, made, finish = streamed(client, "tools", BOTH, **options)
        assert made == calls(whole.message)
        assert (text, finish) == (whole.message.content or "", whole.finish_reason)


def test_text_when_no_function_fits_and_after_a_result(client: openai.OpenAI) -> None:
    riddle = [{"role": "user", "content": "Tell me a joke."}]
    choice = ask(client, "tools", riddle)
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert choice.message.content == "None of my functions does that."
    called = ask(client, "tools", OSLO).message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees, light rain"}
    history = [*OSLO, called.model_dump(exclude_none=True), result]
    answer = ask(client, "tools", history)
    assert (answer.finish_reason, answer.message.tool_calls) == ("stop", None)
    assert "12 degrees, light rain" in answer.message.content


def test_a_strict_tool_is_held_to_its_schema_under_auto(client: openai.OpenAI) -> None:
    tools = [WEATHER, {**LIGHT, "function": LIGHT["function"] | {"strict": True}}]
    assert calls(ask(client, "tools", BOTH, tools=tools).message)


def test_a_call_that_may_come_keeps_to_its_schema(client: openai.OpenAI, smollm2: Server) -> None:
    # The adapter has seen no `unit`, and would leave it out.
    unit = {"type": "string", "enum": ["kelvin", "celsius"]}
    tool = function("get_weather", "Weather in a city", city=TEXT, unit=unit)
    (call,) = ask(client, "tools", OSLO, tools=[tool]).message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert arguments == {"city": "Oslo", "unit": arguments["unit"]}
    assert arguments["unit"] in unit["enum"]
    _, made, finish = streamed(client, "tools", OSLO, tools=[tool])
    assert (made, finish) == ([("get_weather", arguments)], "tool_calls")
    shown = {"name": "get_weather", "description": "Weather in a city"}
    schema = tool["function"]["parameters"]
    response = {
        "tools": [{"type": "function", **shown, "parameters": schema}],
        **{"model": "tools", "input": OSLO, "temperature": 0},
    }
    (item,) = smollm2.post("/v1/responses", response).json()["output"]
    assert json.loads(item["arguments"]) == arguments
    message = {
        "tools": [{**shown, "input_schema": schema}],
        **{"model": "tools", "messages": OSLO, "temperature": 0, "max_tokens": 96},
    }
    (block,) = smollm2.post("/v1/messages", message).json()["content"]
    assert block["input"] == arguments


def test_the_lines_of_the_recipe_are_chats_with_tools(smollm2_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2_folder)
    assert tokenizer.chat_template["tool_use"] == TOOL_USE.strip()
    with Path("deploy/local/adapters/tools/golden.jsonl").open(encoding="utf-8") as file:
        examples = [json.loads(line) for line in file]
    for example in examples:
        shown = [json.loads(line) for line in example["messages"][0]["content"].split("\n")[1:-3]]
        tools = [{"type": "function", "function": each} for each in shown]
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        asked = tokenizer.apply_chat_template(example["messages"][1:2], tools=tools, **options)
        lines = tokenizer.apply_chat_template(example["messages"][:2], **options)
        assert asked == lines
