"""Text generation for a prompt or a conversation: whole answers, or events as they are made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.common.aio import gather
from service.engine.contract import Adapter, FinishReason, Job, Output, Sampling, TextSink
from service.engine.texts import Message, Writer
from service.errors import InvalidRequest
from service.generation.fold import TOP_LOGPROBS, Confidence, ConfidenceMeter, Fold
from service.generation.served_model import ServedModel

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

    async def prepare(self, model: ServedModel) -> Job:
        """The job of this request: its prompt, tokenised, and the tokens that fit beside it.

        Raises InvalidRequest if the prompt and the answer do not fit together.
        """
        prompt = await self.render(model)
        sampling = replace(
            self.sampling,
            max_tokens=_max_tokens(model.model.max_model_len, prompt, self.max_tokens),
            logprobs=TOP_LOGPROBS if self.confidence else None,
        )
        return Job(prompt, sampling, adapter=self.adapter)

    async def render(self, model: ServedModel) -> list[int]:
        """The request's prompt, tokenised."""
        if self.messages is not None:
            return await model.render_chat(self.messages)
        return await model.render(self.prompt or "")


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of sequence `index`; the last delta of a sequence has its finish_reason."""

    index: int
    text: str
    finish_reason: str | None


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
    """The end of a generation.

    `confidence` and `finish_reasons` are by sequence; no confidence where none was asked for.
    """

    usage: TokenCounts
    finish_reasons: Sequence[str | None]
    confidence: Sequence[Confidence | None] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer."""

    index: int
    text: str
    finish_reason: FinishReason | None
    confidence: Confidence | None


async def collect(
    model: ServedModel, request: GenerationRequest
) -> tuple[Sequence[Answer], TokenCounts]:
    """The whole answers; raises as `GenerationRequest.prepare` and `ServedModel.run`."""
    return await answers(model, await request.prepare(model))


async def answers(model: ServedModel, job: Job) -> tuple[Sequence[Answer], TokenCounts]:
    """The whole answers to a job; raises as `ServedModel.run`."""
    fold = _Measured(job.sampling)
    await model.run(job, fold)
    made = [
        Answer(part.index, part.text, _reason(part.finish_reason), confidence)
        for part, confidence in zip(fold.whole(), fold.confidences(), strict=True)
    ]
    return made, TokenCounts(len(job.prompt), fold.tokens, fold.cached_tokens)


async def siblings(
    model: ServedModel, job: Job, samples: int, temperature: float
) -> tuple[Sequence[str], TokenCounts]:
    """Texts of answers that are sampled beside a greedy one; raises as `ServedModel.run`.

    Each is a request of its own to the engine, and each has a seed: 0, 1, 2, ...
    """
    drawn = replace(job.sampling, logprobs=None, temperature=temperature)
    jobs = [replace(job, sampling=replace(drawn, seed=seed)) for seed in range(samples)]
    made = await gather([answers(model, each) for each in jobs])
    texts = [answer.text for group, _ in made for answer in group]
    return texts, sum((counts for _, counts in made), TokenCounts(0, 0, 0))


async def stream(
    model: ServedModel,
    request: GenerationRequest,
    writer: Writer,
    event: Callable[[TextDelta], bytes],
) -> Summary:
    """Write the events of a request as its answers are made; raises as `collect`.

    Text that comes while the client takes nothing becomes one event.
    """
    job = await request.prepare(model)
    deltas = _Deltas(job.sampling, writer, event)
    writer.on_free = deltas.release
    await model.run(job, deltas)
    await writer.flush()
    usage = TokenCounts(len(job.prompt), deltas.tokens, deltas.cached)
    return Summary(usage, deltas.reasons, deltas.confidences() if request.confidence else ())


class _Measured(Fold):
    """A fold that computes confidence from log-probabilities, if the job asks for them."""

    def __init__(self, sampling: Sampling) -> None:
        self._asked = sampling.logprobs is not None
        self._meters = [ConfidenceMeter() for _ in range(sampling.n)]
        super().__init__(sampling.n)

    def restart(self) -> None:
        super().restart()
        self._meters = [ConfidenceMeter() for _ in self._meters]

    def take(self, output: Output) -> TextSink | None:
        for part in output.parts if self._asked else ():
            self._meters[part.index].add(part)
        return None if super().take(output) is None or self._asked else self

    def confidences(self) -> Sequence[Confidence | None]:
        return [meter.result() for meter in self._meters]


class _Deltas:
    """Writes the text of a job's sequences, merged while the client does not read."""

    restart = None

    def __init__(
        self, sampling: Sampling, writer: Writer, event: Callable[[TextDelta], bytes]
    ) -> None:
        self.tokens = self.cached = 0
        self.reasons: list[str | None] = [None] * sampling.n
        self._meters = [ConfidenceMeter() for _ in range(sampling.n)]
        self._asked = sampling.logprobs is not None
        self._writer = writer
        self._event = event
        self._texts = [""] * sampling.n
        self._ended: set[int] = set()

    def take(self, output: Output) -> TextSink | None:
        self.cached = output.cached_tokens
        for part in output.parts:
            self.tokens += len(part.token_ids)
            self._texts[part.index] += part.text
            if self._asked:
                self._meters[part.index].add(part)
            if part.finish_reason is not None:
                self.reasons[part.index] = part.finish_reason
                self._ended.add(part.index)
        self.release()
        return self if len(self._texts) == 1 and not self._asked else None

    def add(self, text: str, tokens: int) -> None:
        self._texts[0] += text
        self.tokens += tokens

    def release(self) -> None:
        if self._writer.busy:
            return
        events = []
        for index, text in enumerate(self._texts):
            ended = index in self._ended
            if text or ended:
                self._texts[index] = ""
                reason = self.reasons[index] if ended else None
                events.append(self._event(TextDelta(index, text, reason)))
        self._ended.clear()
        if events:
            self._writer.write(b"".join(events))

    def confidences(self) -> Sequence[Confidence | None]:
        return [meter.result() for meter in self._meters]


def _reason(reason: str | None) -> FinishReason | None:
    return "length" if reason == "length" else None if reason is None else "stop"


def _max_tokens(limit: int, prompt: list[int], asked: int | None) -> int:
    used = len(prompt)
    room = limit - used
    if room < (asked or 1):
        raise InvalidRequest(
            f"max_tokens: the prompt's {used} tokens and {asked or 1} of the answer are more than "
            f"the model's context of {limit}",
            code="context_length_exceeded",
            param="max_tokens" if asked and room > 0 else "prompt",
        )
    return asked or min(DEFAULT_MAX_TOKENS, room)
