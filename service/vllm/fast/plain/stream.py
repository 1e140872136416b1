"""Streamed answers whose events differ in their text only, written in the engine's own steps."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from pydantic_core import to_json
from vllm.outputs import CompletionOutput, RequestOutput

from service.context import current_context
from service.engine.protocol import TextSink
from service.engine.writer import Writer
from service.vllm.client import GatedClient
from service.vllm.fast.plain.events import DONE, Events, Shapes, own_fields
from service.vllm.generation import Generation
from service.vllm.named_tier import named_tier

USES = (
    "reads vllm.entrypoints.generate.base.serving:GenerateBaseServing._raise_if_error",
    "reads vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat.get_chat_request_role",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class PlainStream:
    """A plain answer, with the events that vLLM's generator would make of it.

    Texts that come while the client takes nothing become one event. `check` raises for a finish
    reason that is an error.
    """

    restart = None

    def __init__(
        self,
        events: Events,
        head: bytes,
        client: GatedClient,
        request: Generation,
        check: Callable[[str | None, str], None],
    ) -> None:
        self._events = events
        self._head = head
        self._frame = events.frame()
        self._client = client
        self._request = request
        self._check = check
        self._first: RequestOutput | None = None
        self._end: CompletionOutput | None = None
        self._tokens = 0
        self._held: str | None = None
        self._writer: Writer | None = None

    async def write_to(self, writer: Writer) -> None:
        """Run the request and write its events; raises as `GatedClient.push`."""
        self._writer = writer
        writer.on_free = self.release
        await self._client.push(self._request, self)
        await writer.flush()

    def take(self, output: RequestOutput) -> TextSink | None:
        """Write an output, with the text that waits."""
        (said,) = output.outputs
        self._check(said.finish_reason, output.request_id)
        if self._first is None:
            self._first = output
        if said.finish_reason is not None:
            self._end = said
        if said.text or said.token_ids or self._tokens or self._end is not None:
            self.add(said.text, len(said.token_ids))
        self.release()
        return self

    def add(self, text: str, tokens: int) -> None:
        """Keep a step's text, of `tokens` tokens, until `release`."""
        self._tokens += tokens
        self._held = text if self._held is None else self._held + text

    def release(self) -> None:
        """Write the text that was kept, unless the client takes nothing."""
        assert self._writer is not None
        if self._writer.busy:
            return
        text, self._held = self._held, None
        if self._end is not None or self._head:
            self._write_edge(text)
        elif text is not None:
            before, after = self._frame
            self._writer.write(before + to_json(text) + after)

    def _write_edge(self, text: str | None) -> None:
        """Write the beginning or the end of the stream, or both in one."""
        assert self._writer is not None
        assert self._first is not None
        parts, self._head = [self._head], b""
        end, self._end = self._end, None
        if text is not None and end is not None:
            parts.append(self._events.last(text, end))
        elif text is not None:
            parts.append(to_json(text).join(self._frame))
        if end is not None:
            parts += [self._events.usage(self._first, self._tokens), DONE]
        self._writer.write(b"".join(parts))


class PlainStreams:
    """Makes the plain streams of one of vLLM's handlers, whose ids begin with `prefix`."""

    def __init__(
        self, client: GatedClient, handler: Any, prefix: str, shapes: Mapping[bool, Shapes]
    ) -> None:
        self._client = client
        self._handler = handler
        self._prefix = prefix
        self._shapes = shapes

    @classmethod
    async def of(
        cls,
        client: GatedClient,
        handler: Any,
        prefix: str,
        generator: Callable[[bool], AsyncGenerator[str, None]],
    ) -> "PlainStreams":
        """The streams of a handler; `generator` is vLLM's with `probes`, with or without usage."""
        shapes = {usage: await Shapes.of(generator(usage)) for usage in (False, True)}
        return cls(client, handler, prefix, shapes)

    def make(self, request: Any, generation: Generation) -> PlainStream:
        """The stream that answers a plain request."""
        context = current_context()
        tier = named_tier(context)
        options = request.stream_options
        shapes = self._shapes[options is not None and bool(options.include_usage)]
        named = {} if tier is None else {"service_tier": tier}
        events, head = Events(shapes, named, own_fields(self._prefix)), b""
        if shapes.head is not None:
            head = events.head(self._handler.get_chat_request_role(request))
        check = self._handler._raise_if_error
        return PlainStream(events, head, self._client, generation, check)
