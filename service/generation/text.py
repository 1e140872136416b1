"""Text generation for a prompt or a conversation: whole answers, or events as they are made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.common.aio import gather
from service.context import Tokens
from service.engine.contract import Adapter, FinishReason, Job, Output, Part, Sampling, TextSink
from service.engine.texts import Message, Writer
from service.errors import InvalidRequest
from service.generation.fold import TOP_LOGPROBS, Confidence, ConfidenceMeter, Fold, StreamSink
from service.generation.served_model import ServedModel

DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Request for text; a `max_tokens` of None means as many as fit, at most 256.

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
class Summary:
    """The end of a generation.

    `confidence` and `finish_reasons` have an entry for each sequence; `confidence` only if asked
    for.
    """

    usage: Tokens
    finish_reasons: Sequence[str | None]
    confidence: Sequence[Confidence | None] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer."""

    index: int
    text: str
    finish_reason: FinishReason
    confidence: Confidence | None


async def collect(model: ServedModel, job: Job) -> tuple[Sequence[Answer], Tokens]:
    """The whole answers to a job; raises as `ServedModel.run`."""
    measured = job.sampling.logprobs is not None
    fold = Fold(job.sampling.n, details=measured)
    await model.run(job, fold)
    made = [
        Answer(
            part.index,
            part.text,
            "length" if part.finish_reason == "length" else "stop",
            _confidence(part) if measured else None,
        )
        for part in fold.whole()
    ]
    return made, Tokens(len(job.prompt), fold.cached_tokens, fold.tokens)


def _confidence(part: Part) -> Confidence | None:
    meter = ConfidenceMeter()
    meter.add(part)
    return meter.result()


async def siblings(
    model: ServedModel, job: Job, samples: int, temperature: float
) -> tuple[Sequence[str], Tokens]:
    """Texts of answers that are sampled beside a greedy one; raises as `ServedModel.run`.

    Each is a request of its own to the engine, and each has a seed: 0, 1, 2, ...
    """
    drawn = replace(job.sampling, logprobs=None, temperature=temperature)
    jobs = [replace(job, sampling=replace(drawn, seed=seed)) for seed in range(samples)]
    made = await gather([collect(model, each) for each in jobs])
    used = Tokens()
    for _, tokens in made:
        used.add(tokens)
    return [answer.text for group, _ in made for answer in group], used


async def stream(
    model: ServedModel, request: GenerationRequest, writer: Writer, event: Callable[[Part], bytes]
) -> Summary:
    """Write the events of a request as its answers are made; raises as `prepare` and `collect`.

    Text that comes while the client does not read is merged into one event.
    """
    job = await request.prepare(model)
    sink = _TextStream(job.sampling, writer, event)
    await model.run(job, sink)
    await writer.flush()
    cached = 0 if sink.first is None else sink.first.cached_tokens
    usage = Tokens(len(job.prompt), cached, sink.tokens)
    confidence = [meter.result() for meter in sink.meters]
    return Summary(usage, sink.reasons, confidence)


class _TextStream(StreamSink):
    """Writes the text of a job's sequences."""

    def __init__(self, sampling: Sampling, writer: Writer, event: Callable[[Part], bytes]) -> None:
        measured = sampling.logprobs is not None
        super().__init__(writer, texts=sampling.n == 1 and not measured)
        self.reasons: list[str | None] = [None] * sampling.n
        self.meters = [ConfidenceMeter() for _ in range(sampling.n if measured else 0)]
        self._event = event

    def take(self, output: Output) -> TextSink | None:
        texts = super().take(output)
        self.release()
        return texts

    def _read(self, part: Part) -> None:
        if self.meters:
            self.meters[part.index].add(part)
        if part.finish_reason is not None:
            self.reasons[part.index] = part.finish_reason
        self._hold(part)

    def _send(self, parts: Sequence[Part]) -> None:
        told = [each for each in parts if each.text or each.finish_reason is not None]
        if told:
            self._writer.write(b"".join(map(self._event, told)))


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
