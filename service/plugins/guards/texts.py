"""Texts of a request's body that reach a model's context, for a guard to read."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.plugins.guards.fields import READ, STRUCTURES, UNREAD_WITHIN
from service.plugins.guards.structure_texts import structure_texts

_ROLES = frozenset("system developer user assistant tool".split())
_IDS = frozenset("id call_id tool_call_id tool_use_id".split())
_ID = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_MADE = frozenset("call chatcmpl function functions tool toolu".split())
"""Words that ids begin with."""
_LEAST_WORDS, _LONG_WORD = 4, 14
"""An id of fewer words may be the name of a tool; a longer word may be several without space."""
_SCHEMAS = frozenset(("parameters", "input_schema"))
_ARGUMENTS = "arguments"
"""The key of a past call's arguments, which are JSON in a text; templates write them parsed."""

Read = str | tuple[int, ...]
"""A text, or a prompt of token ids."""


def texts_of(body: Mapping[str, Any]) -> list[Read]:
    """The different texts of a request: one for each message, tool and prompt, one of structures.

    Fields are those of `fields.READ`. The lines of a tool and the labels are joined by commas, as
    in a sentence, by which the trained guard tells harmless ones best.
    """
    found: dict[Read, None] = {}
    for field in READ:
        value: Any = body.get(field)
        if value is None or field in STRUCTURES:
            continue
        one = _is_tokens(value) or not isinstance(value, list)
        entries: list[Any] = [value] if one or field == "candidate_labels" else value
        between = ", " if field in ("tools", "candidate_labels") else "\n"
        for entry in entries:
            strings = _everything(entry) if field == "documents" else _strings(entry)
            text = tuple(entry) if _is_tokens(entry) else between.join(dict.fromkeys(strings))
            if not isinstance(text, str) or text.strip():
                found[text] = None
    structures = "\n".join(dict.fromkeys(_structures(body)))
    if any(map(str.isalpha, structures)):
        found[structures] = None
    return list(found)


def _structures(body: Mapping[str, Any]) -> Iterator[str]:
    for field in STRUCTURES:
        value = body.get(field)
        if field in ("text", "output_config") and isinstance(value, dict):
            value = value.get("format")
        yield from structure_texts(value)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


def _everything(value: Any) -> Iterator[str]:
    """All strings of a value whose keys are the caller's own, and these keys."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _everything(each)
        case dict():
            for key, each in value.items():
                yield key
                yield from _everything(each)


def _strings(value: Any) -> Iterator[str]:
    """The strings of a value that a model may read."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _strings(each)
        case dict():
            for key, each in value.items():
                if key in _SCHEMAS:
                    yield from structure_texts(each)
                elif key == "input" and isinstance(each, dict):
                    yield json.dumps(each, ensure_ascii=False)
                elif key == _ARGUMENTS and isinstance(each, str):
                    yield _parsed(each)
                elif key in _IDS and isinstance(each, str):
                    yield from _words(each)
                elif key not in UNREAD_WITHIN and not (key == "role" and each in _ROLES):
                    yield from _strings(each)


def _words(name: str) -> Iterator[str]:
    """The words of an id, which templates may write; none of an id that is only random.

    A guard takes random letters for an attack.
    """
    if _ID.fullmatch(name) is None:
        yield name
        return
    pieces = [_WORDS.findall(each) for each in re.split("[_.:-]", name) if each.isalpha()]
    # Single letters between capitals are random ones.
    sound = [each for each in pieces if len(each) == 1 or min(map(len, each)) > 1]
    words = [word for piece in sound for word in piece if word not in _MADE]
    long = any(len(word) >= _LONG_WORD for word in words)
    if long or len([word for word in words if len(word) > 1]) >= _LEAST_WORDS:
        yield " ".join(words)


def _parsed(arguments: str) -> str:
    """JSON as templates write it, which get it parsed: an escaped letter is that letter."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments
