"""Text generation whose events are written in the engine's own steps."""

from collections.abc import Callable

from service.engine.protocol import Chunk, FinishReason, TextEngine, TextSink
from service.engine.writer import Writer
from service.generation.stream import GenerationRequest, Summary, TextDelta, TokenCounts


async def push(
    engine: TextEngine,
    request: GenerationRequest,
    writer: Writer,
    event: Callable[[TextDelta], bytes],
) -> Summary:
    """Write the events of a plain request; returns its tokens. Raises as `stream`.

    Deltas that come while the client takes nothing become one event.
    """
    prompt, sampling = await request.prepare(engine)
    deltas = _Deltas(writer, event)
    writer.on_free = deltas.release
    await engine.push(prompt, sampling, request.adapter, deltas)
    await writer.flush()
    return Summary(TokenCounts(len(prompt.token_ids), deltas.tokens, deltas.cached))


class _Deltas:
    """The deltas of one sequence, put together until the client takes them."""

    restart = None

    def __init__(self, writer: Writer, event: Callable[[TextDelta], bytes]) -> None:
        self.tokens = 0
        self.cached = 0
        self._writer = writer
        self._event = event
        self._text = ""
        self._reason: FinishReason | None = None

    def take(self, chunk: Chunk) -> TextSink | None:
        self.cached = chunk.cached_tokens
        for delta in chunk.deltas:
            self._reason = delta.finish_reason
            self.add(delta.text, delta.tokens)
        self.release()
        return self

    def add(self, text: str, tokens: int) -> None:
        self._text += text
        self.tokens += tokens

    def release(self) -> None:
        if self._writer.busy or not (self._text or self._reason):
            return
        delta = TextDelta(0, self._text, self._reason)
        self._text, self._reason = "", None
        self._writer.write(self._event(delta))
