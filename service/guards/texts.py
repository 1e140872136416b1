"""Texts of a request's body that a model reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_FIELDS = (
    *("prompt", "suffix", "messages", "input", "instructions", "system", "tools", "documents"),
    "chat_template_kwargs",
)
_NO_TEXT = frozenset(
    """type role id call_id tool_call_id tool_use_id status signature encrypted_content
    data""".split()
)
_OBJECTS = frozenset(("input", "parameters", "input_schema"))
"""Keys of objects that templates write as JSON, with the names of their fields."""

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
            text = tuple(entry) if _is_tokens(entry) else "\n".join(_strings(entry))
            if not isinstance(text, str) or text.strip():
                found[text] = None
    return list(found)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


def _strings(value: Any) -> Iterator[str]:
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
                elif key not in _NO_TEXT:
                    yield from _strings(each)
