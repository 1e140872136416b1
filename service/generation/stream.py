"""Text generation: a request, and its stream of deltas."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from service.engine.protocol import (
    Adapter,
    FinishReason,
    HasModel,
    Message,
    Prompt,
    Sampling,
    TextEngine,
    Tokeniser,
)
from service.errors import InvalidRequest
from service.generation.confidence import TOP_LOGPROBS, Confidence, ConfidenceMeter

DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Request for text; `max_tokens` None means as many as fit, at most 256.

    Exactly one of `prompt` and `messages` is set.
    """

    prompt: str | None
    messages: Sequence[Message] | None
    max_tokens: int | None
    sampling: Sampling
    adapter: Adapter | None
    confidence: bool

    @property
    def plain(self) -> bool:
        """True for one answer of text alone."""
        return self.sampling.n == 1 and not self.confidence

    async def prepare(self, engine: Tokeniser) -> tuple[Prompt, Sampling]:
        """The request's prompt, tokenised, and its sampling with the tokens that fit beside it.

        Raises InvalidRequest if the prompt and the answer do not fit together.
        """
        prompt = await self.render(engine)
        max_tokens = _max_tokens(engine, prompt, self.max_tokens)
        logprobs = TOP_LOGPROBS if self.confidence else None
        return prompt, replace(self.sampling, max_tokens=max_tokens, logprobs=logprobs)

    async def render(self, engine: Tokeniser) -> Prompt:
        """The request's prompt, tokenised."""
        if self.messages is not None:
            return await engine.render_chat(self.messages)
        return await engine.render(self.prompt or "")


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of sequence `index`; the last delta of a sequence has its finish_reason."""

    index: int
    text: str
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens used by a request; cached prompt tokens are part of the prompt's."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a generation; `confidence` by sequence, empty when not asked for."""

    usage: TokenCounts
    confidence: Sequence[Confidence | None] = ()


async def stream(
    engine: TextEngine, request: GenerationRequest
) -> AsyncGenerator[TextDelta | Summary, None]:
    """Generate: any number of deltas, then one summary.

    Raises InvalidRequest before the engine sees a prompt that does not fit with its answer.
    """
    prompt, sampling = await request.prepare(engine)
    meters = [ConfidenceMeter() for _ in range(sampling.n)]
    cached = completion = 0
    async with aclosing(engine.generate(prompt, sampling, request.adapter)) as chunks:
        async for chunk in chunks:
            cached = chunk.cached_tokens
            for delta in chunk.deltas:
                completion += delta.tokens
                meters[delta.index].add(delta.logprobs)
                if delta.text or delta.finish_reason:
                    yield TextDelta(delta.index, delta.text, delta.finish_reason)
    yield Summary(
        TokenCounts(len(prompt.token_ids), completion, cached),
        [meter.result() for meter in meters] if request.confidence else (),
    )


def _max_tokens(engine: HasModel, prompt: Prompt, asked: int | None) -> int:
    limit = engine.model.max_model_len
    used = len(prompt.token_ids)
    room = limit - used
    if room < (asked or 1):
        raise InvalidRequest(
            f"max_tokens: the prompt's {used} tokens and {asked or 1} of the answer are more than "
            f"the model's context of {limit}",
            code="context_length_exceeded",
            param="max_tokens" if asked and room > 0 else "prompt",
        )
    return asked or min(DEFAULT_MAX_TOKENS, room)
