"""Schemas for the engine's compiler: rewritten, or as grammars with extra rules.

xgrammar converts a schema to a grammar as text, in which a constant is a literal. Constants that
are placeholders for rules (service/schemas) are replaced by the rules' names.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import xgrammar
from jsonschema_rs import Draft202012Validator

from service.schemas.rewrite import Rewritten, rewrite


@dataclass(frozen=True, slots=True)
class Written:
    """Structured output for the compiler: vLLM's `kind`, the text, and unenforced keywords."""

    kind: str
    text: str
    unenforced: Sequence[str] = ()


class Impossible(Exception):
    """A schema that allows nothing."""


def write_schema(schema: Any, *, any_whitespace: bool, most_spaces: int | None = None) -> Written:
    """Convert a JSON schema to text for the compiler.

    Raises Impossible, the errors of `rewrite`, and ValueError for a schema that no validator
    accepts, for example because a pattern does not parse.
    """
    found = rewrite(schema)
    Draft202012Validator(schema, validate_formats=True)
    left = tuple(map(str, found.unenforced))
    if found.schema is False:
        raise Impossible
    if not found.rules:
        return Written("json", json.dumps(found.schema), left)
    return Written("grammar", _grammar(found, any_whitespace, most_spaces), left)


def _grammar(found: Rewritten, any_whitespace: bool, most_spaces: int | None) -> str:
    text = str(
        xgrammar.Grammar.from_json_schema(
            json.dumps(found.schema),
            any_whitespace=any_whitespace,
            separators=None if any_whitespace else (",", ":"),
            max_whitespace_cnt=most_spaces,
        )
    )
    for mark, rule in found.rules.items():
        name = rule.text.partition(" ")[0]
        as_value = f'("\\"" {name} "\\"")' if rule.inside else name
        text = text.replace(f'"\\"{mark}\\""', as_value)
        text = text.replace(f'Regex("{mark}", json_string=true)', name)
    return "\n".join([text, *(rule.text for rule in found.rules.values())])


def write_tag(tag: Any, *, any_whitespace: bool) -> Written:
    """Convert a structural tag to text, with the schemas of JSON arguments rewritten.

    Arguments without a schema are an object with any members, and there is at most one space
    between their parts. Raises the errors of `write_schema`.
    """
    left: list[str] = []
    for name, part in list(tag_parts(tag)):
        if part.get("type") != "json_schema" or part.get("style", "json") != "json":
            continue
        schema = {"type": "object"} if part["json_schema"] is True else part["json_schema"]
        written = write_schema(schema, any_whitespace=any_whitespace, most_spaces=1)
        left += [f"{each} of {name}" for each in written.unenforced]
        if written.kind == "grammar":
            part.clear()
            part |= {"type": "grammar", "grammar": written.text}
        else:
            part |= {"json_schema": json.loads(written.text), "max_whitespace_cnt": 1}
    return Written("structural_tag", json.dumps(tag), tuple(left))


def tag_parts(tag: Any, begin: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a structural tag outside schemas, each with the text that begins its tag."""
    if isinstance(tag, list):
        for each in tag:
            yield from tag_parts(each, begin)
    elif isinstance(tag, dict):
        begin = str(tag.get("begin", begin))
        yield begin, tag
        if tag.get("type") != "json_schema":
            for each in tag.values():
                yield from tag_parts(each, begin)
