"""Texts of a request's body that a model reads."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_FIELDS = (
    *("prompt", "suffix", "messages", "input", "instructions", "system", "tools", "documents"),
    "chat_template_kwargs",
)
_NO_TEXT = frozenset("type status signature encrypted_content data".split())
_WORDS = frozenset("role id call_id tool_call_id tool_use_id".split())
"""Keys whose values are words, which templates may write; any other text there is read."""
_ROLES = frozenset("system developer user assistant tool".split())
_ID = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_OBJECTS = frozenset(("input", "parameters", "input_schema"))
"""Keys of objects that templates write as JSON, with the names of their fields."""
_ARGUMENTS = "arguments"
"""The key of a past call's arguments, which are JSON in a text."""

Read = str | tuple[int, ...]
"""A text, or a prompt of token ids."""


def texts_of(body: Mapping[str, Any]) -> list[Read]:
    """The different texts of a generation request: one for each message, tool and prompt."""
    found: dict[Read, None] = {}
    for field in _FIELDS:
        value: Any = body.get(field)
        one = _is_tokens(value) or not isinstance(value, list)
        entries: list[Any] = [value] if one else value
        for entry in entries:
            strings = _everything(entry) if field == "documents" else _strings(entry)
            text = tuple(entry) if _is_tokens(entry) else "\n".join(strings)
            if not isinstance(text, str) or text.strip():
                found[text] = None
    return list(found)


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
                if key in _OBJECTS and isinstance(each, dict):
                    yield json.dumps(each, ensure_ascii=False)
                elif key == _ARGUMENTS and isinstance(each, str):
                    yield _parsed(each)
                elif key not in _NO_TEXT and not _is_word(key, each):
                    yield from _strings(each)


def _parsed(arguments: str) -> str:
    """JSON as templates write it, which get it parsed: an escaped letter is that letter."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments


def _is_word(key: str, value: Any) -> bool:
    if key not in _WORDS or not isinstance(value, str):
        return False
    return value in _ROLES if key == "role" else _ID.fullmatch(value) is not None
