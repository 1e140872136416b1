"""OpenAI's completions: the body, and the answers to its prompts, whole or as events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

from pydantic import Field

from service.common.aio import gather
from service.context import RequestContext
from service.engine.contract import Job, Output, Part, TextSink, TokenLogprobs
from service.engine.texts import Writer
from service.errors import InvalidRequest
from service.generation.conversation import HeldText
from service.generation.fold import Fold
from service.generation.served_model import ServedModel
from service.openai.body import Many
from service.openai.envelope import (
    Chunks,
    Event,
    Told,
    head_of,
    named_tier,
    told_logprob,
    told_prompt_logprobs,
    usage_of,
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
        """True if only the prompt is asked for: the engine then makes a token that is not sent."""
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
    """One prompt: its job, and the part of its text that the answer includes."""

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
    usage = usage_of(
        sum(len(each.job.prompt) for each in prompts),
        sum(fold.tokens for fold in folds),
        told.options,
        folds[-1].cached_tokens,
    )
    return whole_answer(head, told, named_tier(context), choices, usage)


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
    shown = replace(
        part,
        text="" if told.token_ids else prompt.text,
        token_ids=list(prompt.job.prompt),
        logprobs=list(places or ()),
    )
    if not told.echo_alone:
        shown.text += part.text
        shown.token_ids = [*shown.token_ids, *part.token_ids]
        shown.logprobs = [*(places or ()), *(part.logprobs or ())]
    return shown


async def stream_completion(
    model: ServedModel,
    prompts: Sequence[CompletionPrompt],
    told: Told,
    context: RequestContext,
    writer: Writer,
) -> None:
    """Write the events of the answers to all prompts; raises as `ServedModel.run`."""
    events = _Events(prompts, told, context, writer)
    sinks = [_Prompt(events, number) for number in range(len(prompts))]
    writer.on_free = events.release
    await gather(model.run(prompt.job, sink) for prompt, sink in zip(prompts, sinks, strict=True))
    await writer.flush()  # buffered texts go before the end
    events.end()
    await writer.flush()


class _Events(HeldText, Chunks):
    """The events of one streamed answer; answers are numbered consecutively over all prompts."""

    def __init__(
        self,
        prompts: Sequence[CompletionPrompt],
        told: Told,
        context: RequestContext,
        writer: Writer,
    ) -> None:
        self._each = prompts[0].job.sampling.n
        answers = len(prompts) * self._each
        head = head_of(context, "cmpl-", "text_completion")
        Chunks.__init__(self, head, told, context, writer, answers)
        self._prompts = prompts
        self.texts = not told.details and answers == 1
        self.cached: int | None = None
        self._made = [0] * answers
        self._offsets = [0] * answers
        self._told_prompt: set[int] = set()

    def take(self, number: int, part: Part, places: PromptPlaces) -> None:
        """Write a part of an answer to one of the prompts."""
        index = part.index + number * self._each
        echoes = self._told.echo and index not in self._told_prompt
        if not (part.text or part.token_ids or self._made[index] or part.finish_reason or echoes):
            return  # the prompt is not read to its end
        self._made[index] += len(part.token_ids)
        if self.texts:
            self.hold(part)
            self.release()
            return
        self._ended += part.finish_reason is not None
        self._write(self._full(index, self._prompts[number], part, places))

    def release(self) -> None:
        """Write the buffered text, unless the client does not read."""
        if self.held is None or self._writer.busy:
            return
        part, self.held = self.held, None
        if part.finish_reason is None:
            self._write(self._text_event(part.text))
        else:
            self._ended += 1
            self._write(self._event(self._choice(0, part), {}))

    def end(self) -> None:
        """Write the usage, if it is asked for, and the end."""
        usage = None
        if self._told.usage:
            prompt = sum(len(each.job.prompt) for each in self._prompts)
            made = self.tokens + sum(self._made)
            usage = usage_of(prompt, made, self._told.options, self.cached)
        self._end(usage)

    def _full(
        self, index: int, prompt: CompletionPrompt, part: Part, places: PromptPlaces
    ) -> bytes:
        told, ids, shown = self._told, None, part
        if index not in self._told_prompt and (told.echo or told.token_ids):
            self._told_prompt.add(index)
            ids = list(prompt.job.prompt)
            if told.echo:
                shown = _echoed(prompt, part, places, told)
        logprobs = None
        if told.logprobs is not None:
            logprobs = _logprobs(shown, told, self._offsets[index])
        if logprobs and logprobs["tokens"]:
            self._offsets[index] = logprobs["text_offset"][-1] + len(logprobs["tokens"][-1])
        more: Event = {}
        if told.usage_always:
            total, made = len(prompt.job.prompt), self._made[index]
            counted = {"total_tokens": total + made, "completion_tokens": made}
            more["usage"] = {"prompt_tokens": total, **counted}
        made_ids = list(part.token_ids) if told.token_ids else None
        choice = self._choice(index, shown, logprobs, ids, made_ids)
        return self._event(choice, more)

    def _made_of_text(self, text: str) -> bytes:
        return self._event(self._choice(0, Part(0, text, ())), {})

    @staticmethod
    def _choice(
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


class _Prompt:
    """The sink of one prompt's answers."""

    restart = None

    def __init__(self, events: _Events, number: int) -> None:
        self._events = events
        self._number = number
        self._places: PromptPlaces = None

    def take(self, output: Output) -> TextSink | None:
        if self._events.cached is None:
            self._events.cached = output.cached_tokens
        if output.prompt_logprobs is not None:
            self._places = output.prompt_logprobs
        for part in output.parts:
            self._events.take(self._number, part, self._places)
        return self._events if self._events.texts else None
