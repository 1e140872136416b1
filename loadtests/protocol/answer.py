"""Answer of a server, whichever API it speaks."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loadtests.protocol.sse import Line, events


class MalformedAnswer(ValueError):
    """The server's answer is not what its API promises."""


@dataclass(slots=True)
class Answer:
    """The answer's content and the instants (seconds from the send) of its parts.

    `chunks` are the chunks with content; `chunk_tokens` the tokens of each, if the server reports
    them per chunk. `first_event` is the first chunk of any kind, role-only ones included. `done` is
    true if the stream ended with `[DONE]`; `error` is an error event's text.
    """

    chunks: list[float] = field(default_factory=list)
    chunk_tokens: list[int] | None = None
    first_event: float | None = None
    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    items: int = 0
    queue_s: float | None = None
    done: bool = False
    error: str | None = None

    def count(self, usage: dict[str, Any]) -> None:
        """Take the token counts of a `usage` object, ours or OpenAI's."""
        self.prompt_tokens = usage.get("prompt_tokens")
        self.completion_tokens = usage.get("completion_tokens")
        details = usage.get("prompt_tokens_details") or {}
        self.cached_tokens = usage.get("cached_tokens", details.get("cached_tokens"))


def objects(lines: Iterable[Line], answer: Answer) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield the JSON objects of a stream, with their times, until `[DONE]` or an error event.

    Sets the answer's `done` or `error` at the end. Raises MalformedAnswer for an event whose data
    is not a JSON object.
    """
    for event in events(lines):
        if event.data == b"[DONE]":
            answer.done = True
            return
        tree = parse(event.data)
        answer.error = error_of(tree)
        if answer.error is not None:
            return
        if answer.first_event is None:
            answer.first_event = event.at
        yield event.at, tree


def parse(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; raises MalformedAnswer, which quotes the start of any other data."""
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise MalformedAnswer(f"not JSON: {data[:80]!r}") from error
    if not isinstance(tree, dict):
        raise MalformedAnswer(f"not an object: {data[:80]!r}")
    return tree


def error_of(tree: dict[str, Any]) -> str | None:
    """`code: message` of an error object, or None."""
    error = tree.get("error")
    if error is None and tree.get("object") == "error":
        error = tree
    if error is None:
        return None
    if not isinstance(error, dict):
        return str(error)
    return f"{error.get('code') or error.get('type')}: {error.get('message')}"
