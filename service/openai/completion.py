"""OpenAI's completions: the body, and the answers to its prompts, whole or as events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

from pydantic import Field

from service.common.aio import gather
from service.context import RequestContext
from service.engine.contract import Job, Output, Part, TokenLogprobs
from service.engine.texts import Writer
from service.errors import InvalidRequest
from service.generation.conversation import Usage
from service.generation.fold import Fold, StreamSink
from service.generation.served_model import ServedModel
from service.openai.body import Many
from service.openai.envelope import (
    Chunks,
    Event,
    Told,
    head_of,
    told_logprob,
    told_prompt_logprobs,
    whole_answer,
)
from service.openai.sampling import GenerationBody, TokenId, check_count
from service.settings.limits import LimitSettings

PromptPlaces = Sequence[TokenLogprobs | None] | None

_LONGEST = 16
"""Tokens of the longest completion if the body sets no maximum, as in OpenAI's API."""

TokenIds = Annotated[list[TokenId], Many]
Prompt = str | TokenIds | Annotated[list[str], Many] | Annotated[list[TokenIds], Many]


class CompletionBody(GenerationBody):
    """The body of a completion: prompts to be continued."""

    prompt: Prompt = Field(examples=["Once upon a time"])
    """A text, or the ids of its tokens; or a list of such prompts."""
    echo: bool | None = Field(None, description="Begin the answer with the prompt.")
    logprobs: int | None = None
    """Tell the log-probabilities of so many likely tokens at each place."""
    suffix: str | None = None
    """What comes after the answer, for models that fill in the middle."""
    add_special_tokens: bool = Field(True, description="Begin the prompt as the model's prompts.")

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or the ids of its tokens."""
        first = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        several = first is not self.prompt and not isinstance(first, int)
        return self.prompt if several else [self.prompt]  # type: ignore[return-value, list-item]

    @property
    def prompt_count(self) -> int:
        return len(self.prompts)

    @property
    def longest(self) -> int | None:
        if self.max_tokens is None:
            return _LONGEST
        return 1 if self.only_echoes else self.max_tokens

    @property
    def only_echoes(self) -> bool:
        """True if only the echoed prompt is wanted; the engine's one token is then discarded."""
        return bool(self.echo) and self.max_tokens == 0

    @property
    def likely(self) -> int | None:
        return self.logprobs

    @property
    def likely_of_prompt(self) -> int | None:
        echoed = self.logprobs if self.echo else None
        return echoed if self.prompt_logprobs is None else self.prompt_logprobs

    def settle(self, limits: LimitSettings, context: int) -> None:
        if not self.prompt:
            raise InvalidRequest("prompt: must not be empty", param="prompt")
        if (count := self.prompt_count) > limits.prompts:
            message = f"prompt: at most {limits.prompts} prompts, got {count}"
            raise InvalidRequest(message, param="prompt")
        check_count(self.logprobs, 0, limits.logprobs, "logprobs")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("max_tokens: must be at least 1, got 0", param="max_tokens")
        if self.suffix is not None and self.echo:
            raise InvalidRequest("suffix: not beside echo", param="suffix")
        if self.suffix is not None and self.truncate_prompt_tokens is not None:
            raise InvalidRequest("suffix: not beside truncate_prompt_tokens", param="suffix")
        super().settle(limits, context)


@dataclass(frozen=True, slots=True)
class CompletionPrompt:
    """One prompt: its job, and the part of its text to echo in the answer."""

    job: Job
    text: str = ""


async def whole_completion(
    model: ServedModel, prompts: Sequence[CompletionPrompt], told: Told, context: RequestContext
) -> bytes:
    """The JSON of the whole answers to all prompts; raises as `ServedModel.run`."""
    head = head_of(context, "cmpl-", "text_completion")
    folds = [Fold(each.job.sampling.n, details=told.details) for each in prompts]
    await gather(model.run(prompt.job, fold) for prompt, fold in zip(prompts, folds, strict=True))
    choices: list[Event] = []
    for prompt, fold in zip(prompts, folds, strict=True):
        for part in fold.whole():
            choices.append(_choice(len(choices), prompt, part, fold.prompt_logprobs, told))
    tokens = sum(fold.tokens for fold in folds)
    usage = _usage(prompts, told, tokens, folds[-1].cached_tokens)
    return whole_answer(head, told, context, choices, usage)


def _usage(prompts: Sequence[CompletionPrompt], told: Told, tokens: int, cached: int) -> Usage:
    """The tokens of an answer; the one that is made for an echo alone is not in it."""
    total = sum(len(each.job.prompt) for each in prompts)
    return Usage(total, cached, completion_tokens=0 if told.echo_alone else tokens)


def _choice(
    index: int, prompt: CompletionPrompt, part: Part, places: PromptPlaces, told: Told
) -> Event:
    shown = _echoed(prompt, part, places, told) if told.echo else part
    return {
        "index": index,
        "text": shown.text,
        "logprobs": _logprobs(shown, told),
        "finish_reason": part.finish_reason,
        "stop_reason": part.stop_reason,
        "token_ids": told.ids(part.token_ids),
        "prompt_logprobs": told_prompt_logprobs(places),
        "prompt_token_ids": told.ids(prompt.job.prompt),
        "routed_experts": None,
    }


def _logprobs(part: Part, told: Told, offset: int = 0) -> Event | None:
    """The `logprobs` of a part, whose text begins at an `offset` in characters."""
    if (top := told.logprobs) is None:
        return None
    offsets, logprobs = list[int](), list[float | None]()
    tokens, alternatives = list[str](), list[dict[str, float] | None]()
    names = told.names
    for token_id, place in zip(part.token_ids, part.logprobs or (), strict=False):
        offsets.append(offset)
        known = None if place is None else place[token_id]
        tokens.append(name := names.of(token_id, known))
        offset += len(name)
        logprobs.append(None if known is None else told_logprob(known.logprob))
        if place is None:
            alternatives.append(None)
            continue
        # OpenAI tells the token's own beside the most likely ones.
        likely = islice(place.items(), top + 1)
        alternatives.append(
            {names.of(key, each): told_logprob(each.logprob) for key, each in likely}
        )
    return {
        "text_offset": offsets,
        "token_logprobs": logprobs,
        "tokens": tokens,
        "top_logprobs": alternatives,
    }


def _echoed(prompt: CompletionPrompt, part: Part, places: PromptPlaces, told: Told) -> Part:
    """Prepend the prompt to a part; if token ids are sent, the prompt's text is not repeated."""
    if told.echo_alone:
        part = replace(part, text="", token_ids=(), logprobs=None)
    return replace(
        part,
        text=("" if told.token_ids else prompt.text) + part.text,
        token_ids=[*prompt.job.prompt, *part.token_ids],
        logprobs=[*(places or ()), *(part.logprobs or ())],
    )


async def stream_completion(
    model: ServedModel,
    prompts: Sequence[CompletionPrompt],
    told: Told,
    context: RequestContext,
    writer: Writer,
) -> None:
    """Write the events of the answers to all prompts; raises as `ServedModel.run`."""
    each = prompts[0].job.sampling.n
    head = head_of(context, "cmpl-", "text_completion")
    chunks = Chunks(head, told, context, writer, len(prompts) * each, _text_choice)
    texts = not told.details and len(prompts) * each == 1
    sinks = [
        _PromptStream(prompt, number * each, told, chunks, writer, texts=texts)
        for number, prompt in enumerate(prompts)
    ]
    await gather(model.run(prompt.job, sink) for prompt, sink in zip(prompts, sinks, strict=True))
    await writer.flush()  # buffered texts go before the end
    first = sinks[0].first
    tokens = sum(sink.tokens for sink in sinks)
    chunks.end(_usage(prompts, told, tokens, 0 if first is None else first.cached_tokens))
    await writer.flush()


class _PromptStream(StreamSink):
    """Writes the events of the answers to one prompt; the first answer has the number `base`."""

    def __init__(
        self,
        prompt: CompletionPrompt,
        base: int,
        told: Told,
        chunks: Chunks,
        writer: Writer,
        *,
        texts: bool,
    ) -> None:
        super().__init__(writer, texts=texts)
        self._prompt = prompt
        self._base = base
        self._told = told
        self._chunks = chunks
        self._places: PromptPlaces = None
        answers = prompt.job.sampling.n
        self._made = [0] * answers
        self._offsets = [0] * answers
        self._told_prompt: set[int] = set()

    def _begin(self, output: Output) -> None:
        self._places = output.prompt_logprobs

    def _read(self, part: Part) -> None:
        if self._texts:
            super()._read(part)
            return
        told, prompt, index = self._told, self._prompt, part.index
        self._made[index] += 0 if told.echo_alone else len(part.token_ids)
        ids, shown = None, part
        if index not in self._told_prompt and (told.echo or told.token_ids):
            self._told_prompt.add(index)
            ids = list(prompt.job.prompt)
            if told.echo:
                shown = _echoed(prompt, part, self._places, told)
        logprobs = _logprobs(shown, told, self._offsets[index])
        if logprobs and logprobs["tokens"]:
            self._offsets[index] = logprobs["text_offset"][-1] + len(logprobs["tokens"][-1])
        more: Event = {}
        if told.usage_always:
            total, made = len(prompt.job.prompt), self._made[index]
            counted = {"total_tokens": total + made, "completion_tokens": made}
            more["usage"] = {"prompt_tokens": total, **counted}
        choice = _chunk_choice(self._base + index, shown, logprobs, ids, told.ids(part.token_ids))
        self._chunks.write(choice, more)

    def _send(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.finish_reason is None:
                self._chunks.write_text(part.text)
            else:
                self._chunks.write(_chunk_choice(0, part), {})


def _chunk_choice(
    index: int,
    part: Part,
    logprobs: Event | None = None,
    prompt_ids: list[int] | None = None,
    token_ids: list[int] | None = None,
) -> Event:
    return {
        "index": index,
        "text": part.text,
        "logprobs": logprobs,
        "finish_reason": part.finish_reason,
        "stop_reason": part.stop_reason,
        "prompt_token_ids": prompt_ids,
        "token_ids": token_ids,
    }


def _text_choice(text: str) -> Event:
    return _chunk_choice(0, Part(0, text, ()))
