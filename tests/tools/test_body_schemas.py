"""Schemas of bodies: the keys of a shape with the types of a model."""

import json
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel

from service.limits.shape import Kinds, Shape
from tools.body_schemas import FILE, read, whole


class Text(BaseModel):
    type: Literal["text"]
    text: str


class Picture(BaseModel):
    type: Literal["picture"]
    address: str


class Body(BaseModel):
    """A model that knows more than a route reads."""

    content: str | list[Text | Picture]
    choice: Literal["auto", "none"] | dict[str, Any] | None = None
    depth: int | None = 3
    secret: str


SHAPE: Shape = {
    "content": Kinds({"text": dict.fromkeys(("type", "text"))}, "text only"),
    "choice": None,
    "depth": None,
}


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"content": "a"}, True),
        ({"content": [{"type": "text", "text": "a"}]}, True),
        ({"content": [{"type": "picture", "address": "a"}]}, False),
        ({"content": [{"text": "a"}]}, False),
        ({"content": "a", "choice": "auto", "depth": 1}, True),
        ({"content": "a", "choice": "any"}, False),
        ({"content": "a", "choice": {"name": "a"}}, True),
        ({"content": "a", "depth": "1"}, False),
        ({"depth": 1}, False),
    ],
)
def test_a_body_is_as_the_shape_and_the_model_say(body: dict[str, Any], fits: bool) -> None:
    schema = read(Body.model_json_schema(), SHAPE)
    assert jsonschema.Draft202012Validator(schema).is_valid(body) == fits


def test_it_has_the_keys_of_the_shape_alone_without_defaults_and_nulls() -> None:
    schema = read(Body.model_json_schema(), SHAPE)
    assert schema["properties"].keys() == SHAPE.keys()
    assert schema["properties"]["depth"] == {"type": "integer"}
    assert schema["properties"]["choice"] == {
        "anyOf": [
            {"type": "string", "enum": ["auto", "none"]},
            {"type": "object", "additionalProperties": True},
        ]
    }


def test_an_answer_keeps_its_nulls() -> None:
    schema = read(Body.model_json_schema(), SHAPE, nulls=True)
    assert {"type": "null"} in schema["properties"]["depth"]["anyOf"]


def test_a_whole_model_has_no_references() -> None:
    schema = whole(Body.model_json_schema())
    assert "$ref" not in str(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(
        {"content": [{"type": "picture", "address": "a"}], "secret": "a", "depth": None}
    )


@pytest.mark.parametrize("name", ["ResponseRequest", "MessageRequest"])
def test_a_request_that_is_answered_may_name_its_tier(name: str) -> None:
    described = json.loads(FILE.read_text(encoding="utf-8"))[name]["properties"]
    assert described["service_tier"]["enum"] == ["auto", "default", "flex"]
