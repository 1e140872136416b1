"""Answers to OpenAI's completions of one or more prompts, whole or as server-sent events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from service.common.aio import together
from service.context import RequestContext
from service.engine.contract import Job, Output, Part, TextSink, TokenLogprobs
from service.engine.protocol import AnswerOptions
from service.engine.roles import Generator, LanguageModel
from service.engine.writer import Writer
from service.generation.fold import Fold
from service.openai.completion_body import CompletionBody
from service.openai.envelope import (
    DONE,
    Event,
    TokenNames,
    asked_usage,
    completion_logprobs,
    event_of,
    head_of,
    named_tier,
    text_frame,
    told_prompt_logprobs,
    usage_of,
    without_nulls,
)


@dataclass(frozen=True, slots=True)
class CompletionTold:
    """What the answer to a completion tells beside its text, as the body asks for it.

    With `echo` an answer begins with its prompt, and with `echo_alone` that is all of it.
    """

    options: AnswerOptions
    names: TokenNames
    logprobs: int | None = None
    token_ids: bool = False
    usage: bool = False
    usage_always: bool = False
    echo: bool = False
    echo_alone: bool = False

    @classmethod
    def of(cls, body: CompletionBody, model: LanguageModel) -> "CompletionTold":
        """What a body asks for."""
        options = model.model.answers
        usage, always = asked_usage(body.stream_options, options)
        return cls(
            options,
            TokenNames.asked(model, body.return_tokens_as_token_ids),
            logprobs=body.logprobs,
            token_ids=bool(body.return_token_ids),
            usage=usage,
            usage_always=always,
            echo=bool(body.echo),
            echo_alone=body.only_echoes,
        )

    @property
    def details(self) -> bool:
        """True if the answer tells more than its text."""
        return self.logprobs is not None or self.token_ids or self.usage_always or self.echo


@dataclass(frozen=True, slots=True)
class CompletionPrompt:
    """One prompt: its job, and its text as far as it is told."""

    job: Job
    text: str = ""


async def whole_completion(
    model: Generator,
    prompts: Sequence[CompletionPrompt],
    told: CompletionTold,
    context: RequestContext,
) -> bytes:
    """The JSON of the whole answers to all prompts; raises as `Generator.run`."""
    head = head_of(context, "cmpl-", "text_completion")
    folds = [Fold(each.job.sampling.n, details=told.details) for each in prompts]
    await together(model.run(prompt.job, fold) for prompt, fold in zip(prompts, folds, strict=True))
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
    return to_json(
        {
            **head,
            "choices": choices,
            "service_tier": named_tier(context),
            "system_fingerprint": told.options.fingerprint,
            "usage": usage,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


def _choice(
    index: int,
    prompt: CompletionPrompt,
    part: Part,
    prompt_logprobs: Sequence[TokenLogprobs | None] | None,
    told: CompletionTold,
) -> Event:
    shown = _echoed(prompt, part, prompt_logprobs, told) if told.echo else part
    logprobs = None
    if told.logprobs is not None:
        found = shown.logprobs or ()
        logprobs = completion_logprobs(shown.token_ids, found, told.logprobs, told.names)
    return {
        "index": index,
        "text": shown.text,
        "logprobs": logprobs,
        "finish_reason": part.finish_reason,
        "stop_reason": part.stop_reason,
        "token_ids": list(part.token_ids) if told.token_ids else None,
        "prompt_logprobs": told_prompt_logprobs(prompt_logprobs),
        "prompt_token_ids": list(prompt.job.prompt) if told.token_ids else None,
        "routed_experts": None,
    }


def _echoed(
    prompt: CompletionPrompt,
    part: Part,
    prompt_logprobs: Sequence[TokenLogprobs | None] | None,
    told: CompletionTold,
) -> Part:
    """A part after its prompt; where token ids are told, the prompt's text is not repeated."""
    text = "" if told.token_ids else prompt.text
    before, places = list(prompt.job.prompt), list(prompt_logprobs or ())
    if told.echo_alone:
        return Part(part.index, text, before, part.finish_reason, part.stop_reason, places)
    tokens = [*before, *part.token_ids]
    return Part(
        part.index,
        text + part.text,
        tokens,
        part.finish_reason,
        part.stop_reason,
        [*places, *(part.logprobs or ())],
    )


async def stream_completion(
    model: Generator,
    prompts: Sequence[CompletionPrompt],
    told: CompletionTold,
    context: RequestContext,
    writer: Writer,
) -> None:
    """Write the events of the answers to all prompts; raises as `Generator.run`."""
    events = _Events(prompts, told, context, writer)
    sinks = [_Prompt(events, number) for number in range(len(prompts))]
    writer.on_free = events.release
    await together(model.run(prompt.job, sink) for prompt, sink in zip(prompts, sinks, strict=True))
    await writer.flush()  # texts that are kept go before the end
    events.end()
    await writer.flush()


class _Events:
    """The events of one streamed answer; the answers of all prompts are numbered through."""

    def __init__(
        self,
        prompts: Sequence[CompletionPrompt],
        told: CompletionTold,
        context: RequestContext,
        writer: Writer,
    ) -> None:
        self.prompts = prompts
        self.told = told
        self.texts = not told.details and len(prompts) == prompts[0].job.sampling.n == 1
        self.cached: int | None = None
        self._writer = writer
        self._tier = named_tier(context)
        self._head = head_of(context, "cmpl-", "text_completion")
        self.each = prompts[0].job.sampling.n
        self._answers = len(prompts) * self.each
        self._made = [0] * self._answers
        self._offsets = [0] * self._answers
        self._told_prompt: set[int] = set()
        self._ended = 0
        self._held: Part | None = None
        self._pending: list[bytes] = []
        self._frame: tuple[bytes, bytes] | None = None

    def take(self, number: int, part: Part, logprobs: Any) -> None:
        """A part of an answer to one of the prompts."""
        index = part.index + number * self.each
        echoes = self.told.echo and index not in self._told_prompt
        if not (part.text or part.token_ids or self._made[index] or part.finish_reason or echoes):
            return  # the prompt is not read to its end
        self._made[index] += len(part.token_ids)
        if self.texts:
            self._hold(part)
            self.release()
            return
        self._write(self._full(index, self.prompts[number], part, logprobs), part)

    def add(self, text: str, tokens: int) -> None:
        """Keep a step's text until the client takes it."""
        self._made[0] += tokens
        if self._held is None:
            self._held = Part(0, text, ())
        else:
            self._held.text += text

    def release(self) -> None:
        """Write the text that was kept, unless the client takes nothing."""
        if self._held is None or self._writer.busy:
            return
        part, self._held = self._held, None
        self._write(self._text(part), part)

    def end(self) -> None:
        """The usage, where it is asked for, and the end."""
        told = self.told
        if told.usage:
            prompt = sum(len(each.job.prompt) for each in self.prompts)
            usage = usage_of(prompt, sum(self._made), told.options, self.cached)
            body = {
                **self._head,
                "choices": [],
                "usage": usage,
                "system_fingerprint": told.options.fingerprint,
            }
            self._pending.append(event_of(without_nulls(body), self._tier))
        self._pending.append(DONE)
        self._flush()

    def _hold(self, part: Part) -> None:
        if self._held is not None:
            part.text = self._held.text + part.text
        self._held = part

    def _write(self, event: bytes, part: Part) -> None:
        self._pending.append(event)
        if part.finish_reason is not None:
            self._ended += 1
        if self._ended < self._answers:  # else the end follows at once
            self._flush()

    def _flush(self) -> None:
        parts, self._pending = self._pending, []
        self._writer.write(b"".join(parts))

    def _text(self, part: Part) -> bytes:
        if part.finish_reason is not None:
            return self._event(self._body(0, part))
        if self._frame is None:
            self._frame = text_frame(lambda text: self._event(self._body(0, Part(0, text, ()))))
        return self._frame[0] + to_json(part.text) + self._frame[1]

    def _full(self, index: int, prompt: CompletionPrompt, part: Part, places: Any) -> bytes:
        told, ids, first = self.told, None, index not in self._told_prompt
        shown = part
        if first and (told.echo or told.token_ids):
            self._told_prompt.add(index)
            ids = list(prompt.job.prompt)
            if told.echo:
                shown = _echoed(prompt, part, places, told)
        logprobs = None
        if told.logprobs is not None:
            found = shown.logprobs or ()
            logprobs = completion_logprobs(
                shown.token_ids, found, told.logprobs, told.names, self._offsets[index]
            )
            if logprobs["tokens"]:
                self._offsets[index] = logprobs["text_offset"][-1] + len(logprobs["tokens"][-1])
        body = self._body(index, shown, logprobs, ids, part.token_ids)
        if told.usage_always:
            total = len(prompt.job.prompt)
            made = self._made[index]
            body["usage"] = {
                "prompt_tokens": total,
                "total_tokens": total + made,
                "completion_tokens": made,
            }
        return self._event(body)

    def _body(
        self,
        index: int,
        part: Part,
        logprobs: Event | None = None,
        prompt_ids: list[int] | None = None,
        token_ids: Sequence[int] = (),
    ) -> Event:
        choice = {
            "index": index,
            "text": part.text,
            "logprobs": logprobs,
            "finish_reason": part.finish_reason,
            "stop_reason": part.stop_reason,
            "prompt_token_ids": prompt_ids,
            "token_ids": list(token_ids) if self.told.token_ids else None,
        }
        return {**self._head, "choices": [choice]}

    def _event(self, body: Event) -> bytes:
        ended = body["choices"][0]["finish_reason"] is not None
        fingerprint = self.told.options.fingerprint
        if ended and fingerprint and not self.told.usage:
            body["system_fingerprint"] = fingerprint
        return event_of(body, self._tier)


class _Prompt:
    """The sink of one prompt's answers."""

    restart = None

    def __init__(self, events: _Events, number: int) -> None:
        self._events = events
        self._number = number
        self._prompt_logprobs: Sequence[TokenLogprobs | None] | None = None

    def take(self, output: Output) -> TextSink | None:
        if self._events.cached is None:
            self._events.cached = output.cached_tokens
        if output.prompt_logprobs is not None:
            self._prompt_logprobs = output.prompt_logprobs
        for part in output.parts:
            self._events.take(self._number, part, self._prompt_logprobs)
        return self._events if self._events.texts else None
