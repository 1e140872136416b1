"""Prompts from a file of the user, or of ShareGPT.

Each line is a JSON object with `prompt` (text) or `messages` (a list of `role` and `content`). A
file of ShareGPT has objects with `conversations`, one in each line or all in one array; a
conversation is sent up to the user's last turn.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from loadtests.load.text import Message

_SHAREGPT_ROLES = {"human": "user", "user": "user", "system": "system"}
_WANTED = (
    "wanted is a JSON object with `prompt` (text), `messages` (a list of objects with `role` and "
    "`content`) or ShareGPT's `conversations`"
)


@cache
def read_prompts(path: Path) -> tuple[tuple[Message, ...], ...]:
    """The conversations of a file; ValueError names file, line and what is wanted."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    found = []
    for line, row in _rows(path, text):
        messages = _messages(row)
        if messages is None:
            raise ValueError(f"{path}, line {line}: {_WANTED}, got {json.dumps(row)[:80]}")
        if messages:
            found.append(messages)
    if not found:
        raise ValueError(f"{path}: holds no prompt; {_WANTED}")
    return tuple(found)


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Rows of an array by their place, or of lines by their number."""
    array = text.lstrip().startswith("[")
    line = 0
    try:
        if array:
            yield from enumerate(json.loads(text), 1)
            return
        for line, each in enumerate(text.splitlines(), 1):
            if each.strip():
                yield line, json.loads(each)
    except json.JSONDecodeError as error:
        line = error.lineno if array else line
        raise ValueError(f"{path}, line {line}: not JSON: {error.msg}; {_WANTED}") from error


def _messages(row: Any) -> tuple[Message, ...] | None:
    """A row's messages, empty for a conversation without a user's turn; None for any other row."""
    match row:
        case {"prompt": str(prompt)} if prompt:
            return (Message("user", prompt),)
        case {"messages": [_, *_] as turns}:
            return _turns(turns, "role", "content")
        case {"conversations": [*turns]}:
            named = _turns(turns, "from", "value")
            while named and named[-1].role not in ("human", "user"):
                named = named[:-1]
            return named and tuple(
                Message(_SHAREGPT_ROLES.get(each.role, "assistant"), each.text) for each in named
            )
    return None


def _turns(turns: list[Any], role: str, text: str) -> tuple[Message, ...] | None:
    pairs = [(turn.get(role), turn.get(text)) for turn in turns if isinstance(turn, dict)]
    found = [Message(r, t) for r, t in pairs if isinstance(r, str) and isinstance(t, str)]
    return tuple(found) if len(found) == len(turns) else None
