"""Schemas, regular expressions and choices that are ordinary, or built to be expensive."""

import random
import string
from collections.abc import Callable
from typing import Any

from tests.fuzz import schemas


def response_format(dice: random.Random) -> dict[str, Any]:
    """A `response_format` of /v1/generate: one of three is built to be expensive."""
    kind = dice.choice(["json_schema", "json_schema", "regex", "choice"])
    costly = dice.random() < 1 / 3
    match kind:
        case "json_schema":
            made = dice.choice(_COSTLY_SCHEMAS)(dice) if costly else schema(dice)
            return {"type": kind, "json_schema": made}
        case "regex":
            return {"type": kind, "regex": dice.choice(_COSTLY_REGEXES if costly else _REGEXES)}
        case _:
            count = dice.choice([1, 2, 20, 256, 257]) if costly else dice.choice([2, 3])
            return {"type": kind, "choice": [f"{_word(dice)} {n}" for n in range(count)]}


def schema(dice: random.Random, size: int = 4) -> dict[str, Any]:
    """A schema of some `size` parts: small ones, now and then of the whole grammar of schemas."""
    if dice.random() < 0.1:
        return schemas.schema(dice, dice.choice((6, 24, 60)))
    made = schemas.schema(dice, size)
    return made if dice.random() < 0.5 else made["$defs"]["d0"] | {"$defs": made["$defs"]}


def _many_properties(dice: random.Random) -> dict[str, Any]:
    count = dice.choice([30, 120, 300])
    keys = dice.choice([{"minProperties": count // 2}, {"maxProperties": count // 2}, {}])
    properties = {f"{_word(dice)}{n}": {"type": "string"} for n in range(count)}
    return {"type": "object", "properties": properties} | keys


def _pattern_properties(dice: random.Random) -> dict[str, Any]:
    levels = dice.choice([1, 3, 8])
    made: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        made = {
            "type": "object",
            "properties": {"a": made, "b": made},
            "patternProperties": {"^x": {"type": "string"}, "^y": {"type": "integer"}},
        }
    return made


def _counted(dice: random.Random) -> dict[str, Any]:
    most = dice.choice([100, 1000, 10**6])
    text: dict[str, Any] = {"type": "string", "minLength": most // 2, "maxLength": most}
    return {"type": "array", "items": text, "minItems": dice.choice([1, 50]), "maxItems": most}


def _formats(dice: random.Random) -> dict[str, Any]:
    formats = ["email", "uri", "date-time", "ipv6", "uuid", "duration", "hostname"]
    names = [f"{_word(dice)}{n}" for n in range(dice.choice([5, 40]))]
    return {
        "type": "object",
        "properties": {n: {"type": "string", "format": dice.choice(formats)} for n in names},
        "required": names,
    }


def _combined(dice: random.Random) -> dict[str, Any]:
    parts = [schema(dice, 2) for _ in range(dice.choice([2, 8, 24]))]
    return {dice.choice(["allOf", "anyOf", "oneOf"]): parts}


def _recursive(dice: random.Random) -> dict[str, Any]:
    node = {"type": "object", "properties": {n: {"$ref": "#/$defs/n"} for n in "abc"}}
    return {"$defs": {"n": node}, "$ref": "#/$defs/n", "title": _word(dice)}


def _word(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_lowercase, k=dice.randint(1, 8)))


_COSTLY_SCHEMAS: list[Callable[[random.Random], dict[str, Any]]] = [
    *(_many_properties, _pattern_properties, _counted, _formats, _combined, _recursive)
]
_REGEXES = ["[a-z]{1,8}", "(yes|no)", r"\d{4}-\d{2}", "a*b+c?", "[^\\n]{0,20}"]
_COSTLY_REGEXES = [
    "(a|aa)+b", "(.*a){12}", "[\\u0000-\\U0010ffff]{200}", "((a{1,20}){1,20}){1,20}",
    r"(\w+\s?)+$", "x{1000}", "(?=a)b", r"(a)\1", "[a-z", "a{99999}", "(" * 40 + "a" + ")" * 40,
    "|".join(f"w{n}" for n in range(150)),
]  # fmt: skip
