"""Values and problems as messages show them."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.common.error_messages import problems, problems_in, quote, quote_name


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
    exact: Literal[True] = True


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "name: required"),
        ({"name": 3}, "name: must be a valid string, got 3"),
        ({"name": "a", "nam": 1}, "nam: unknown key; did you mean 'name'?"),
        (
            {"name": "a", "parts": [{"rank": 0}]},
            "parts[0].rank: must be greater than or equal to 1",
        ),
        (
            {"name": "a", "parts": [{"rank": 1, "rnk": 2}]},
            "parts[0].rnk: unknown key; did you mean",
        ),
        ({"name": "a", "exact": False}, "exact: must be true, got false"),
        ([], "must be an object with keys, got a list of 0"),
    ],
)
def test_a_problem_names_field_rule_and_value(document: object, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _Outer.model_validate(document)
    (problem,) = problems(refused.value.errors(), _Outer)
    assert str(problem).startswith(message)


class _Word(BaseModel):
    type: Literal["word"]


class _Sum(BaseModel):
    type: Literal["sum"]
    of: int


class _Forms(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: str | list[str] | list[int] | None = None
    part: str | _Inner | None = None
    several: list[str | _Inner] = []
    told: _Word | _Sum | None = None
    choice: Literal["none"] | Literal["auto"] | _Inner = "none"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"text": 3}, "text: must be a valid string or a list, got 3"),
        ({"text": ["a", "b", 3]}, "text[2]: must be a valid string, got 3"),
        ({"text": [1, "a", "b"]}, "text[1]: must be a valid integer, got 'a'"),
        ({"part": {}}, "part.rank: required"),
        ({"part": {"rank": 0}}, "part.rank: must be greater than or equal to 1, got 0"),
        ({"part": {"rank": 1, "rnk": 1}}, "part.rnk: unknown key"),
        ({"several": ["a", 3]}, "several[1]: must be a valid string or an object with keys, got 3"),
        ({"several": ["a", {"rank": 0}]}, "several[1].rank: must be greater than or equal to 1,"),
        ({"told": {"type": "sum"}}, "told.of: required"),
        ({"told": {"type": "other"}}, "told.type: must be 'word' or 'sum', got 'other'"),
        ({"choice": 3}, "choice: must be 'none' or 'auto' or an object with keys, got 3"),
    ],
)
def test_a_union_has_one_problem_at_its_place_in_the_document(
    document: object, message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        _Forms.model_validate(document)
    (problem,) = problems_in(document, refused.value.errors())
    assert str(problem).startswith(message)


def test_each_field_has_its_problem() -> None:
    document = {"text": 3, "part": 4, "other": 5}
    with pytest.raises(ValidationError) as refused:
        _Forms.model_validate(document)
    fields = [problem.field for problem in problems_in(document, refused.value.errors())]
    assert fields == ["text", "part", "other"]


def test_few_of_many_errors_are_read() -> None:
    document = {"text": [None] * 100_000}
    with pytest.raises(ValidationError) as refused:
        _Forms.model_validate(document)
    errors = iter(refused.value.errors())
    (problem,) = problems_in(document, errors)
    assert problem.field == "text[0]"
    assert len(list(errors)) > 100_000
