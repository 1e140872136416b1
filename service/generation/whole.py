"""Whole answers, put together in the engine's own steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.engine.protocol import (
    Adapter,
    Chunk,
    FinishReason,
    Prompt,
    Sampling,
    TextEngine,
    TextSink,
)
from service.generation.confidence import Confidence, ConfidenceMeter
from service.generation.stream import GenerationRequest, TokenCounts
from service.together import together


@dataclass(frozen=True, slots=True)
class Output:
    """One whole answer."""

    index: int
    text: str
    finish_reason: FinishReason | None
    confidence: Confidence | None


async def collect(
    engine: TextEngine, request: GenerationRequest
) -> tuple[Sequence[Output], TokenCounts]:
    """The whole answers; raises as `stream`."""
    prompt, sampling = await request.prepare(engine)
    return await _made(engine, prompt, sampling, request.adapter)


async def siblings(
    engine: TextEngine, request: GenerationRequest, samples: int, temperature: float
) -> tuple[Sequence[str], TokenCounts]:
    """Texts of answers that are sampled for the prompt of a greedy request; raises as `stream`.

    Each is a request of its own to the engine, and each has a seed: 0, 1, 2, ...
    """
    alone = replace(request, confidence=False)
    prompt, greedy = await alone.prepare(engine)
    made = await together(
        _made(engine, prompt, replace(greedy, temperature=temperature, seed=seed), request.adapter)
        for seed in range(samples)
    )
    texts = [output.text for outputs, _ in made for output in outputs]
    return texts, sum((counts for _, counts in made), TokenCounts(0, 0, 0))


async def _made(
    engine: TextEngine, prompt: Prompt, sampling: Sampling, adapter: Adapter | None
) -> tuple[Sequence[Output], TokenCounts]:
    answers = _Answers(sampling)
    await engine.push(prompt, sampling, adapter, answers)
    outputs = [answer.output(index) for index, answer in enumerate(answers.parts)]
    return outputs, TokenCounts(len(prompt.token_ids), answers.tokens, answers.cached)


class _Answer:
    def __init__(self, confidence: ConfidenceMeter | None) -> None:
        self.texts: list[str] = []
        self.reason: FinishReason | None = None
        self.meter = confidence

    def output(self, index: int) -> Output:
        confidence = self.meter.result() if self.meter else None
        return Output(index, "".join(self.texts), self.reason, confidence)


class _Answers:
    """Adds up the chunks of a generation."""

    def __init__(self, sampling: Sampling) -> None:
        self._count = sampling.n
        self._measured = sampling.logprobs is not None
        self._text_alone = sampling.n == 1 and not self._measured
        self.restart()

    def restart(self) -> None:
        meters = (ConfidenceMeter() if self._measured else None for _ in range(self._count))
        self.parts = [_Answer(meter) for meter in meters]
        self.tokens = 0
        self.cached = 0

    def take(self, chunk: Chunk) -> TextSink | None:
        self.cached = chunk.cached_tokens
        for delta in chunk.deltas:
            answer = self.parts[delta.index]
            answer.texts.append(delta.text)
            answer.reason = delta.finish_reason or answer.reason
            if answer.meter:
                answer.meter.add(delta.logprobs)
            self.tokens += delta.tokens
        return self if self._text_alone else None

    def add(self, text: str, tokens: int) -> None:
        self.parts[0].texts.append(text)
        self.tokens += tokens

    def release(self) -> None: ...
