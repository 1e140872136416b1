"""Events and fields of plain answers: copies of those that vLLM's handlers make of a probe."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from vllm.outputs import CompletionOutput, RequestOutput

from service.context import current_context

Event = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_PROBE = "\ue000probe\ue001"
"""A text in the place of any other, of private characters that JSON does not escape."""


async def probes() -> AsyncIterator[RequestOutput]:
    """The outputs of a stream of two tokens, for a handler whose answer becomes a shape."""
    for reason in (None, "stop"):
        said = CompletionOutput(0, _PROBE, [0], None, None, finish_reason=reason)
        counts = {"num_cached_tokens": 1, "num_cache_creation_tokens": 1}
        yield RequestOutput("probe", "", [0], None, [said], reason is not None, **counts)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The events of a generator's streams; each stream puts its own values into copies.

    `head` comes before the first text and `usage` after the last one, None if there is no such
    event.
    """

    head: Event | None
    text: Event
    last: Event
    usage: Event | None

    @classmethod
    async def of(cls, generator: AsyncGenerator[str, None]) -> "Shapes":
        """The events that a generator makes of `probes`."""
        events = [event.removeprefix("data: ") async for event in generator]
        made = [json.loads(event) for event in events if event.startswith("{")]
        usage = None if made[-1]["choices"] else made.pop()
        *head, text, last = made
        return cls(head[0] if head else None, text, last, usage)


class Events:
    """The events of one stream, as bytes.

    `own` are its values of the fields that all events have; `named` are fields to put before these.
    """

    def __init__(self, shapes: Shapes, named: Event, own: Event) -> None:
        self._shapes = shapes
        self._named = named
        self._own = own

    def head(self, role: str) -> bytes:
        """The event before the first text, which names the speaker."""
        shape = self._shapes.head
        assert shape is not None
        (choice,) = shape["choices"]
        return self._event(shape, choices=[{**choice, "delta": {**choice["delta"], "role": role}}])

    def frame(self) -> tuple[bytes, bytes]:
        """The parts of an event before and after the JSON of any text but the last."""
        before, after = self._event(self._shapes.text).split(to_json(_PROBE))
        return before, after

    def last(self, text: str, said: CompletionOutput) -> bytes:
        """The event of the last text, with the reason for the end."""
        shape = self._shapes.last
        return self._event(shape, choices=[with_end(shape["choices"][0], text, said)])

    def usage(self, first: RequestOutput, made: int) -> bytes:
        """The event of the usage, if there is one; `made` are the tokens of the answer."""
        shape = self._shapes.usage
        if shape is None:
            return b""
        return self._event(shape, usage=with_usage(shape["usage"], first, made))

    def _event(self, shape: Event, **more: Any) -> bytes:
        return b"data: " + to_json({**self._named, **shape, **self._own, **more}) + b"\n\n"


def own_fields(prefix: str) -> Event:
    """The current request's values of the fields that each of its events, or its answer, has."""
    context = current_context()
    name = f"{prefix}{context.request_id}"
    return {"id": name, "created": int(time.time()), "model": context.model}


def with_end(choice: Event, text: str, said: CompletionOutput) -> Event:
    """A choice with this text and the reason for the end."""
    ended = {"finish_reason": said.finish_reason, "stop_reason": said.stop_reason}
    for part in ("delta", "message"):  # of a chat
        if part in choice:
            return {**choice, part: {**choice[part], "content": text}, **ended}
    return {**choice, "text": text, **ended}


def with_usage(usage: Event, output: RequestOutput, made: int) -> Event:
    """A usage with the tokens of the prompt, the cached ones and those that were made."""
    prompt = len(output.prompt_token_ids)
    used = {
        **usage,
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
    }
    if (details := usage.get("prompt_tokens_details")) is not None:
        cached = {
            "cached_tokens": output.num_cached_tokens,
            "created_cache_tokens": output.num_cache_creation_tokens,
        }
        shown = {name: cached[name] for name, value in details.items() if value is not None}
        used["prompt_tokens_details"] = {**details, **shown}
    return used
