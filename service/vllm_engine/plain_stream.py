"""Streamed answers of vLLM's handlers whose chunks differ in their text only."""

import json
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

from pydantic_core import to_json
from vllm.outputs import RequestOutput

from service.context import current_context
from service.engine.protocol import TextSink, Writer
from service.vllm_engine.client import GatedClient
from service.vllm_engine.generation import Generation
from service.vllm_engine.named_tier import with_tier

_PROBE = "\ue000probe\ue001"
"""A text in the place of any other, of private characters that JSON does not escape."""


class StreamRequest(Protocol):
    """The fields of vLLM's two requests that decide what a chunk holds."""

    n: int | None
    echo: bool
    return_token_ids: bool | None
    stream_options: Any
    logprobs: Any


def is_plain(request: StreamRequest) -> bool:
    """True if all chunks but the first and the last differ in their text only."""
    options = request.stream_options
    return not (
        (request.n or 1) > 1
        or request.echo
        or request.return_token_ids
        or (request.logprobs is not None and request.logprobs is not False)
        or (options is not None and options.continuous_usage_stats)
    )


class _Pause:
    """Suspends vLLM's generator until there is another output."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Outputs:
    """Source of outputs for a handler's generator: gives one output at a time, then waits.

    A completion's handler wants each with the number of its prompt.
    """

    def __init__(self, *, numbered: bool) -> None:
        self.next: RequestOutput | None = None
        self.ended = False
        self._numbered = numbered

    def __aiter__(self) -> "Outputs":
        return self

    async def __anext__(self) -> Any:
        while (output := self.next) is None:
            if self.ended:
                raise StopAsyncIteration
            await _Pause()
        self.next = None
        return (0, output) if self._numbered else output


class PlainStream:
    """The events of a plain answer, written in the engine's own steps.

    The first and the last event are what vLLM's generator makes of the first and last output. The
    first output has a probe for its text, which tells what the generator writes around every text
    up to the last; only the text is put in. What it counts of outputs that it does not see are
    their tokens, for the usage: the next output that it sees has as many more. What comes while
    the client takes nothing becomes one event.
    """

    restart = None

    def __init__(
        self,
        generator: AsyncGenerator[str, None],
        outputs: Outputs,
        client: GatedClient,
        request: Generation,
        refuse: Callable[[dict[str, Any]], Exception],
    ) -> None:
        self._generator = generator
        self._outputs = outputs
        self._client = client
        self._request = request
        self._refuse = refuse
        self._context = current_context()
        self._step: Any = None
        self._frame: tuple[bytes, bytes] | None = None
        self._unseen = 0
        self._held: RequestOutput | None = None
        self._held_text: str | None = None
        self._writer: Writer | None = None

    async def write_to(self, writer: Writer) -> None:
        """Run the request and write its events; raises as `GatedClient.push`."""
        self._writer = writer
        writer.on_free = self.release
        try:
            await self._client.push(self._request, self)
            await writer.flush()
        finally:
            if self._step is not None:
                self._step.close()

    def take(self, output: RequestOutput) -> TextSink | None:
        """Write an output, with the text that waits.

        Once the frame around every text is known, text alone will do.
        """
        assert self._writer is not None
        if self._held is not None:
            self._held.add(output, aggregate=True)
            return self._text_sink()
        output.outputs[0].text = (self._held_text or "") + output.outputs[0].text
        self._held_text = None
        if self._writer.busy:
            self._held = output
        else:
            self._write(output)
        return self._text_sink()

    def _text_sink(self) -> TextSink | None:
        return None if self._frame is None else self

    def add(self, text: str, tokens: int) -> None:
        """Let a text of so many tokens wait for `release`."""
        self._unseen += tokens
        if self._held is not None:
            self._held.outputs[0].text += text
        else:
            self._held_text = (self._held_text or "") + text

    def release(self) -> None:
        """Write what waits, unless the client takes nothing."""
        assert self._writer is not None
        if self._writer.busy:
            return
        held, self._held = self._held, None
        if held is not None:
            self._write(held)
        elif self._held_text is not None:
            self._write_text()

    def _write_text(self) -> None:
        assert self._writer is not None
        assert self._frame is not None
        before, after = self._frame
        text, self._held_text = self._held_text, None
        self._writer.write(before + to_json(text) + after)

    def _write(self, output: RequestOutput) -> None:
        assert self._writer is not None
        (answer,) = output.outputs
        if self._frame is None or answer.finish_reason is not None:
            self._writer.write(self._by_generator(output))
        else:
            self.add(answer.text, len(answer.token_ids))
            self._write_text()

    def _by_generator(self, output: RequestOutput) -> bytes:
        (answer,) = output.outputs
        answer.token_ids = [0] * self._unseen + list(answer.token_ids)
        self._unseen = 0
        self._outputs.ended = output.finished
        if output.finished or not answer.token_ids:
            return self._feed(output)
        text, answer.text = answer.text, _PROBE
        parts = self._feed(output).split(to_json(_PROBE))
        if len(parts) == 2:
            self._frame = parts[0].rpartition(b"\n\n")[2], parts[1]
        return to_json(text).join(parts)

    def _feed(self, output: RequestOutput) -> bytes:
        """The events that the generator makes of an output, until it waits for the next."""
        self._outputs.next = output
        events: list[str] = []
        while True:
            step = self._step or self._generator.__anext__()
            self._step = None
            try:
                step.send(None)
            except StopIteration as event:
                if event.value.startswith('data: {"error"'):
                    body = json.loads(event.value.removeprefix("data: "))
                    raise self._refuse(body["error"]) from None
                events.append(with_tier(event.value, self._context))
            except StopAsyncIteration:
                break
            else:
                self._step = step
                break
        return "".join(events).encode()
