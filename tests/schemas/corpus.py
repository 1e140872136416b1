"""Schemas that programs write: those of Pydantic and Zod, and of OpenAI's guide.

Those of Zod are in zod.json, which zod.mjs writes.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID

from pydantic import (
    AnyUrl,
    AwareDatetime,
    Base64Str,
    BaseModel,
    ConfigDict,
    Discriminator,
    EmailStr,
    Field,
    HttpUrl,
    IPvAnyAddress,
    Json,
    RootModel,
    SecretStr,
    Tag,
    create_model,
)
from typing_extensions import TypedDict

HERE = Path(__file__).parent


class Color(Enum):
    """Texts."""

    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    """Integers."""

    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    """One of the pets."""

    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    """Another."""

    kind: Literal["dog"]
    good: bool


class Step(BaseModel):
    """A part of an answer, as in OpenAI's guide."""

    explanation: str
    output: str


class Steps(RootModel[list[Step]]):
    """An array."""


class Node(BaseModel):
    """A tree."""

    value: str
    children: list["Node"] = []


class Linked(BaseModel):
    """A list."""

    value: int
    following: Optional["Linked"] = None


class Strict(BaseModel):
    """Nothing else."""

    model_config = ConfigDict(extra="forbid")
    a: int


class Loose(BaseModel):
    """Anything else."""

    model_config = ConfigDict(extra="allow")
    a: int


class Point(NamedTuple):
    """An array."""

    x: float
    y: float


class Address(TypedDict, total=False):
    """Optional members."""

    street: str
    number: int


def _of(value: Any) -> str:
    return value.get("kind", "cat") if isinstance(value, dict) else getattr(value, "kind", "cat")


TYPES: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "none": type(None),
    "decimal": Decimal,
    "bytes": bytes,
    "any": Any,
    "optional": int | None,
    "union": int | str | list[bool],
    "literal": Literal["a", 1, True, None],
    "enum": Color,
    "int_enum": Level,
    "list": list[int],
    "list_any": list[Any],
    "nested_list": list[list[int]],
    "tuple": tuple[int, str],
    "tuple_any": tuple[int, ...],
    "set_bool": set[bool],
    "set_enum": set[Color],
    "dict": dict[str, int],
    "dict_enum": dict[Color, int],
    "dict_int": dict[int, str],
    "dict_literal": dict[Literal["a", "b"], float],
    "dict_model": dict[str, Step],
    "model": Step,
    "models": list[Step],
    "tree": Node,
    "linked": Linked,
    "strict": Strict,
    "loose": Loose,
    "named_tuple": Point,
    "typed_dict": Address,
    "discriminated": Annotated[Cat | Dog, Field(discriminator="kind")],
    "discriminated_list": list[Annotated[Cat | Dog, Field(discriminator="kind")]],
    "callable_discriminator": Annotated[
        Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(_of)
    ],
    "plain_union": Cat | Dog,
    "root_model": Steps,
    "datetime": datetime,
    "aware": AwareDatetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
    "path": Path,
    "url": AnyUrl,
    "http_url": HttpUrl,
    "ip": IPvAnyAddress,
    "email": EmailStr,
    "secret": SecretStr,
    "base64": Base64Str,
    "json": Json,
}

STRINGS = {
    "min_length": 2,
    "max_length": 12,
    "pattern": r"^[a-z]+(-[a-z]+)?$",
}
NUMBERS = {"gt": 0, "ge": -3, "lt": 100, "le": 50, "multiple_of": 5}
DECIMALS = {"ge": 0, "le": 1, "multiple_of": 0.05}
LISTS = {"min_length": 1, "max_length": 3}
DICTS = {"min_length": 1, "max_length": 2}


def pydantic_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """A model of each type, and of each constraint of a type, alone and in pairs."""
    for name, kind in TYPES.items():
        yield name, _schema(kind)
        yield f"{name}_default", _schema(kind | None, default=None)
    constrained: dict[str, tuple[Any, Mapping[str, Any]]] = {
        "str": (str, STRINGS),
        "int": (int, NUMBERS),
        "float": (float, DECIMALS),
        "list": (list[str], LISTS),
        "dict": (dict[str, int], DICTS),
    }
    for name, (kind, constraints) in constrained.items():
        for size in (1, 2):
            for chosen in combinations(constraints, size):
                label = ".".join((name, *chosen))
                yield label, _schema(kind, **{each: constraints[each] for each in chosen})


def _schema(kind: Any, **constraints: Any) -> dict[str, Any]:
    field: Any = (kind, Field(**constraints))
    return create_model("M", a=field).model_json_schema()


def zod_schemas() -> dict[str, dict[str, Any]]:
    """By the names of Zod's types and checks."""
    return dict(json.loads((HERE / "zod.json").read_text()))


_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GUIDE: Mapping[str, dict[str, Any]] = {
    "formats": {
        "type": "object",
        "properties": {
            each: {"type": "string", "format": each}
            for each in (
                *("date-time", "time", "date", "duration", "email", "hostname", "ipv4"),
                *("ipv6", "uuid"),
            )
        },
        "required": ["date", "uuid"],
        "additionalProperties": False,
    },
    "numbers": {
        "type": "object",
        "properties": {
            "a": {"type": "number", "multipleOf": 0.5, "minimum": -130, "maximum": 130},
            "b": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "recursion": {
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#"}},
        },
        "required": ["label", "children"],
        "additionalProperties": False,
    },
    "definitions": {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "person": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
        },
        "$defs": {
            "step": {
                "type": "object",
                "properties": {"explanation": {"type": "string"}},
                "required": ["explanation"],
                "additionalProperties": False,
            },
            "person": _PERSON,
        },
        "required": ["steps", "person"],
        "additionalProperties": False,
    },
    "if_then": {
        "type": "object",
        "properties": {
            "country": {"enum": ["US", "NL"]},
            "code": {"type": "string"},
        },
        "required": ["country", "code"],
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
        "else": {"properties": {"code": {"pattern": "^[0-9]{4}[A-Z]{2}$"}}},
        "additionalProperties": False,
    },
    "dependent": {
        "type": "object",
        "properties": {"card": {"type": "integer"}, "address": {"type": "string"}},
        "dependentRequired": {"card": ["address"]},
        "additionalProperties": False,
    },
    "not": {
        "type": "object",
        "properties": {"a": {"type": "string", "not": {"enum": ["", "none"]}, "maxLength": 8}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "conjoined": {"allOf": [_PERSON, {"properties": {"name": {"minLength": 1, "maxLength": 9}}}]},
    "enum_filtered": {
        "type": "object",
        "properties": {"a": {"enum": ["a", "abc", 3, None], "type": "string", "minLength": 2}},
        "required": ["a"],
    },
}
"""Of OpenAI's subset (its guide to structured outputs), and conditions that people write."""


def corpus() -> dict[str, dict[str, Any]]:
    """All schemas, by a name."""
    return {
        **{f"pydantic {name}": schema for name, schema in pydantic_schemas()},
        **{f"zod {name}": schema for name, schema in zod_schemas().items()},
        **{f"guide {name}": schema for name, schema in GUIDE.items()},
    }


CORPUS = corpus()
