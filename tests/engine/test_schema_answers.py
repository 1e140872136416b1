"""Structured answers of the real model: enforced by the grammar, or checked when they end."""

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import AnyUrl, BaseModel, Field

from tests.engine.asked import CAPITAL
from tests.served.server import Server

REPEATED = {
    "type": "object",
    "properties": {
        "a": {
            "type": "array",
            "items": {"type": "string", "maxLength": 5},
            "maxItems": 2,
            "contains": {"const": "no such item"},
        }
    },
    "required": ["a"],
    "additionalProperties": False,
}
"""A schema that the grammar enforces but for `contains`, and which the model breaks."""
LEFT = "contains, at /properties/a"


def body(schema: Any, **fields: Any) -> dict[str, Any]:
    named = {"name": "answer", "schema": schema} | fields.pop("named", {})
    return {
        "messages": CAPITAL,
        "temperature": 0,
        "max_tokens": 200,
        "response_format": {"type": "json_schema", "json_schema": named},
    } | fields


def ask(server: Server, path: str, asked: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json={"model": server.model} | asked, timeout=120)


def test_an_answer_that_breaks_what_was_only_checked_is_a_refusal(smollm2: Server) -> None:
    answer = ask(smollm2, "/v1/chat/completions", body(REPEATED))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-schema-checked"] == LEFT
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"].startswith("The answer breaks its schema at /a: ")


def test_a_stream_ends_with_the_refusal(smollm2: Server) -> None:
    with httpx.stream(
        "POST",
        f"{smollm2.url}/v1/chat/completions",
        json={"model": smollm2.model} | body(REPEATED, stream=True),
        timeout=120,
    ) as answer:
        assert answer.headers["x-schema-checked"] == LEFT
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    choices = [json.loads(line)["choices"][0] for line in lines if line != "[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert isinstance(json.loads(text)["a"], list)
    assert choices[-1]["finish_reason"] == "stop"
    assert choices[-1]["delta"]["refusal"].startswith("The answer breaks its schema at /a: ")


def test_responses_and_messages_say_the_refusal_in_their_own_form(smollm2: Server) -> None:
    form = {"type": "json_schema", "name": "answer", "schema": REPEATED}
    plain = {"input": "Name two colours.", "temperature": 0, "max_output_tokens": 200}
    for asked in ({"text": {"format": form}}, {"structured_outputs": {"json": REPEATED}}):
        answer = ask(smollm2, "/v1/responses", plain | asked)
        assert answer.status_code == 200, answer.text
        (part,) = answer.json()["output"][-1]["content"]
        assert part["type"] == "refusal"
        assert part["refusal"].startswith("The answer breaks")
    message = {
        "messages": [{"role": "user", "content": "Name two colours."}],
        "max_tokens": 200,
        "output_config": {"format": {"type": "json_schema", "schema": REPEATED}},
    }
    answer = ask(smollm2, "/v1/messages", message)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stop_reason"] == "refusal"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", body(REPEATED, named={"strict": True})),
        (
            "/v1/completions",
            {"prompt": "Hello", "structured_outputs": {"json": REPEATED}, "max_tokens": 9},
        ),
        (
            "/v1/generate",
            {
                "prompt": "Hello",
                "response_format": {"type": "json_schema", "json_schema": REPEATED},
            },
        ),
    ],
)
def test_what_is_never_checked_is_refused_with_its_path(
    smollm2: Server, path: str, asked: dict[str, Any]
) -> None:
    answer = ask(smollm2, path, asked)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message == f"structured output: a grammar cannot enforce {LEFT}"


class Step(BaseModel):
    kind: Literal["step"]
    name: str = Field(pattern="^[a-z]+$", max_length=8)
    link: AnyUrl
    parts: dict[Literal["left", "right"], int]
    size: int = Field(multiple_of=5, ge=0, le=1000)


class End(BaseModel):
    kind: Literal["end"]


class Plan(BaseModel):
    step: Step | End = Field(discriminator="kind")


def test_strict_models_of_pydantic_are_parsed(smollm2: Server) -> None:
    client = openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)
    for seed in range(8):
        try:
            answer = client.chat.completions.parse(
                model=smollm2.model,
                messages=[{"role": "user", "content": "Make a plan: a step with a link."}],
                response_format=Plan,
                temperature=1.0,
                seed=seed,
                max_tokens=400,
            )
        except openai.LengthFinishReasonError:  # a link may be of any length
            continue
        assert isinstance(answer.choices[0].message.parsed, Plan)
        return
    pytest.fail("no answer came to its end")
