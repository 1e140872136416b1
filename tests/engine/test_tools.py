"""Tools through OpenAI's own client, with the base model."""

import json
from collections import defaultdict
from typing import Any, Literal, cast

import openai
import pytest
from jsonschema_rs import validator_for
from openai.types.chat import ChatCompletionToolUnionParam
from pydantic import BaseModel, ConfigDict

from tests.answers import refusal
from tests.engine.asked import CAPITAL, TOKYO
from tests.served.server import Server


class Weather(BaseModel):
    """Arguments of get_weather."""

    model_config = ConfigDict(extra="forbid", strict=True)

    city: str
    day: str | None = None


class Light(BaseModel):
    """Arguments of set_light."""

    model_config = ConfigDict(extra="forbid", strict=True)

    room: Literal["kitchen", "bedroom"]
    on: bool


def function(name: str, description: str, **properties: Any) -> dict[str, Any]:
    """A tool; the parameters that have no default are required."""
    required = [key for key, schema in properties.items() if "default" not in schema]
    schema = {"type": "object", "properties": properties, "required": required}
    closed = schema | {"additionalProperties": False}
    described = {"name": name, "description": description, "parameters": closed}
    return {"type": "function", "function": described}


TEXT: dict[str, Any] = {"type": "string", "maxLength": 24}
WEATHER = function("get_weather", "Weather in a city", city=TEXT, day=TEXT | {"default": "today"})
LIGHT = function(
    "set_light",
    "Switch the light of a room",
    room={"type": "string", "enum": ["kitchen", "bedroom"]},
    on={"type": "boolean"},
)
TOOLS = cast("list[ChatCompletionToolUnionParam]", [WEATHER, LIGHT])
MODELS: dict[str, type[BaseModel]] = {"get_weather": Weather, "set_light": Light}
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
BOTH = [
    {"role": "user", "content": "What is the weather in Oslo? Turn on the light in the kitchen."}
]
NAMED = {"type": "function", "function": {"name": "set_light"}}


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, model: str, messages: Any, **options: Any) -> Any:
    """The only choice of an answer."""
    (choice,) = client.chat.completions.create(
        model=model,
        messages=messages,
        **{"tools": TOOLS, "temperature": 0, "max_tokens": 256, **options},
    ).choices
    return choice


def calls(message: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of a message's calls, valid by the schemas that were offered."""
    found = []
    for call in message.tool_calls or []:
        arguments = json.loads(call.function.arguments)
        tool = WEATHER if call.function.name == "get_weather" else LIGHT
        validator_for(tool["function"]["parameters"]).validate(arguments)
        MODELS[call.function.name].model_validate(arguments)
        assert call.id
        found.append((call.function.name, arguments))
    return found


def streamed(client: openai.OpenAI, model: str, messages: Any, **options: Any) -> Any:
    """Text, names and arguments by index, and the finish reason of a streamed answer."""
    text, finish = "", None
    names: dict[int, str] = {}
    arguments: dict[int, str] = defaultdict(str)
    for chunk in client.chat.completions.create(
        model=model,
        messages=messages,
        stream=True,
        **{"tools": TOOLS, "temperature": 0, "max_tokens": 256, **options},
    ):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            if call.id:
                names[call.index] = call.function.name
            arguments[call.index] += call.function.arguments or ""
        finish = choice.finish_reason or finish
    made = [(names[index], json.loads(arguments[index])) for index in sorted(names)]
    return text, made, finish


@pytest.mark.parametrize("strict", [None, True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_base_must_call_within_the_schema(
    client: openai.OpenAI, smollm2: Server, strict: bool | None
) -> None:
    # The base was not trained to call, so only the grammar keeps it to the schema.
    tools = json.loads(json.dumps([WEATHER, LIGHT]))
    for tool in tools:
        tool["function"]["strict"] = strict
    required = ask(client, smollm2.model, OSLO, tools=tools, tool_choice="required")
    assert calls(required.message)
    assert required.finish_reason == "tool_calls"
    named = ask(client, smollm2.model, OSLO, tools=tools, tool_choice=NAMED)
    assert [name for name, _ in calls(named.message)] == ["set_light"]
    assert named.finish_reason == "stop"
    for choice in ("required", NAMED):
        _, made, _ = streamed(client, smollm2.model, OSLO, tools=tools, tool_choice=choice)
        assert made == calls((required if choice == "required" else named).message)


def test_a_schema_that_cannot_be_enforced_is_refused_where_it_must_be(smollm2: Server) -> None:
    odd = function("count", "Count", number={"type": "number", "not": {"const": 3}})
    body = {"model": smollm2.model, "messages": OSLO, "tools": [odd], "max_tokens": 4}
    for choice in ("required", "auto"):
        answer = smollm2.post("/v1/chat/completions", body | {"tool_choice": choice})
        assert answer.status_code == 200
        assert answer.headers["x-schema-checked"].startswith("not, at /properties/number")
    odd["function"]["strict"] = True
    error = refusal(smollm2.post("/v1/chat/completions", body | {"tool_choice": "required"}), 400)
    assert "a grammar cannot enforce not, at /properties/number" in error["message"]


def test_tools_do_not_change_other_chats(client: openai.OpenAI, smollm2: Server) -> None:
    choice = ask(client, smollm2.model, CAPITAL, tools=openai.omit)
    assert choice.message.content == TOKYO
    text, made, finish = streamed(client, smollm2.model, CAPITAL, tools=openai.omit)
    assert (text, made, finish) == (TOKYO, [], "stop")
    assert ask(client, smollm2.model, OSLO, tool_choice="none").message.tool_calls is None


def test_a_choice_without_tools_is_no_error(smollm2: Server) -> None:
    body = {"model": smollm2.model, "messages": CAPITAL, "max_tokens": 1, "tools": []}
    for choice in ("auto", "none"):
        answer = smollm2.post("/v1/chat/completions", body | {"tool_choice": choice})
        assert answer.status_code == 200, answer.text
    refusal(smollm2.post("/v1/chat/completions", body | {"tool_choice": "required"}), 400)


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_without_a_parser_no_call_can_be_required(tiny: Server, choice: Any) -> None:
    body = {"model": tiny.model, "messages": OSLO, "tools": TOOLS, "tool_choice": choice}
    error = refusal(tiny.post("/v1/chat/completions", body), 400)
    assert (error["code"], error["param"]) == ("unsupported", "tool_choice")
    assert "engine.tool_call_parser" in error["message"]
    assert "--" not in error["message"]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_parser_auto_answers_in_text(tiny: Server, choice: Any, stream: bool) -> None:
    plain = {"model": tiny.model, "messages": OSLO, "max_tokens": 4, "temperature": 0}
    answer = tiny.post("/v1/chat/completions", plain | choice | {"tools": TOOLS, "stream": stream})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Ignored-Fields"] == "tools"
    if not stream:
        without = tiny.post("/v1/chat/completions", plain).json()
        assert answer.json()["choices"] == without["choices"]
