"""Values and problems as messages show them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.quoting import problems, quote, quote_name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (-0.5, "-0.5"),
        ("short", "'short'"),
        ("two\nlines", r"'two\nlines'"),
        ("x" * 41, "41 characters"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "an object of 1 keys"),
        (10**4299, "an integer of 14281 bits"),
    ],
)
def test_a_value_is_shown_short_and_on_one_line(value: Any, shown: str) -> None:
    assert quote(value) == shown


@pytest.mark.parametrize("value", [1 << 128, -(1 << 128), 1e308, {"k": "v" * 999}, "é" * 40])
def test_no_value_makes_a_message_long(value: Any) -> None:
    assert len(quote(value)) <= 42
    assert "\n" not in quote(value)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("top_p", "top_p"), ("a\nb", r"a\nb"), ("x" * 40, "x" * 40), ("x" * 41, "x" * 40 + "...")],
)
def test_a_name_is_shown_as_given_and_cut_when_long(name: str, shown: str) -> None:
    assert quote_name(name) == shown


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rank: int = Field(ge=1)


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    parts: tuple[_Inner, ...] = ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "name: required"),
        ({"name": 3}, "name: must be a valid string, got 3"),
        ({"name": "a", "nam": 1}, "nam: unknown key; did you mean 'name'?"),
        ({"name": "a", "parts": [{"rank": 0}]}, "parts.0.rank: must be greater than or equal to 1"),
        ({"name": "a", "parts": [{"rank": 1, "rnk": 2}]}, "parts.0.rnk: unknown key; did you mean"),
        ([], "must be an object with keys, got a list of 0"),
    ],
)
def test_a_problem_names_field_rule_and_value(document: object, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _Outer.model_validate(document)
    (problem,) = problems(refused.value.errors(), _Outer)
    assert str(problem).startswith(message)


class _Text(BaseModel):
    type: Literal["text"]
    text: str


class _Schema(BaseModel):
    type: Literal["json_schema"]
    json_schema: dict[str, Any]


class _Asked(BaseModel):
    format: Annotated[_Text | _Schema, Field(discriminator="type")] | None = None
    parts: list[_Text | _Schema] = []
    stop: str | list[str] = ""


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"format": {"type": "json_schema"}}, "format.json_schema"),
        ({"format": {"type": "json_schema", "json_schema": 3}}, "format.json_schema"),
        ({"format": {"type": "text", "text": 3}}, "format.text"),
        ({"format": {}}, "format.type"),
        ({"format": 3}, "format"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"parts": [{"type": "text"}]}, "parts.0.text"),
        ([], ""),
    ],
)
def test_a_problems_place_is_one_of_the_document(document: object, place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _Asked.model_validate(document)
    assert next(problems(refused.value.errors(), document=document)).field == place
