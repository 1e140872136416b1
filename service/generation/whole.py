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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request whose prompt is tokenised, to be answered once or several times."""

    engine: TextEngine
    prompt: Prompt
    sampling: Sampling
    adapter: Adapter | None

    @classmethod
    async def of(cls, engine: TextEngine, request: GenerationRequest) -> "Prepared":
        """Prepare a request; raises as `GenerationRequest.prepare`."""
        return cls(engine, *await request.prepare(engine), request.adapter)

    async def answers(self) -> tuple[Sequence[Output], TokenCounts]:
        """The whole answers; raises as `stream`."""
        answers = _Answers(self.sampling)
        await self.engine.push(self.prompt, self.sampling, self.adapter, answers)
        outputs = [answer.output(index) for index, answer in enumerate(answers.parts)]
        return outputs, TokenCounts(len(self.prompt.token_ids), answers.tokens, answers.cached)

    async def siblings(self, samples: int, temperature: float) -> tuple[Sequence[str], TokenCounts]:
        """Texts of answers that are sampled beside a greedy one; raises as `stream`.

        Each is a request of its own to the engine, and each has a seed: 0, 1, 2, ...
        """
        drawn = replace(self.sampling, logprobs=None, temperature=temperature)
        made = await together(
            replace(self, sampling=replace(drawn, seed=seed)).answers() for seed in range(samples)
        )
        texts = [output.text for outputs, _ in made for output in outputs]
        return texts, sum((counts for _, counts in made), TokenCounts(0, 0, 0))


async def collect(
    engine: TextEngine, request: GenerationRequest
) -> tuple[Sequence[Output], TokenCounts]:
    """The whole answers; raises as `stream`."""
    return await (await Prepared.of(engine, request)).answers()


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
