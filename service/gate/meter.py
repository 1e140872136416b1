"""Tokens and times of one engine request, told to all that count them."""

import time
from collections.abc import Callable
from typing import Protocol

from service.context import RequestContext, StreamTrace
from service.context.answer import Answer
from service.engine.contract import Output, Sink, TextSink
from service.gate.permit import Permit


class StreamObserver(Protocol):
    """Learns what engine requests did, once the request's context is up to date; in seconds."""

    def queued_for(self, context: RequestContext, seconds: float) -> None: ...

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Note that a request's first item came `seconds` after its arrival; once a request."""

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        """A function that takes the time between two tokens, and how many tokens took it."""

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None: ...


class Meter:
    """Counts one engine request: for its permit, the HTTP request, the observer and the trace."""

    def __init__(
        self,
        context: RequestContext,
        observer: StreamObserver,
        permit: Permit,
        trace: StreamTrace | None,
    ) -> None:
        self._context = context
        self._observer = observer
        self._permit = permit
        self._trace = trace
        self._passed: Callable[[float, int], None] | None = None
        self._prompt = self._cached = self._completion = 0
        self._last: float | None = None

    @property
    def tokens(self) -> int:
        """Output tokens counted so far."""
        return self._completion

    def total(
        self, prompt: int, cached: int, tokens: int, engine_wait: float | None = None
    ) -> None:
        """Count new output tokens; of the prompt and its cached tokens these are the totals."""
        self._prompt, self._cached, now = prompt, cached, time.monotonic()
        if self._last is None:
            self._begin(tokens, now)
        else:
            self._add(tokens, now)
            engine_wait = None
        self._permit.charge(prompt, cached, self._completion, engine_wait)

    def count(self, tokens: int) -> None:
        """Count new output tokens after the first, which are charged with those of others."""
        self._add(tokens, time.monotonic())
        self._permit.count(tokens)

    def charge_seconds(self, seconds: float) -> None:
        """Charge seconds of a core that the engine spent on this request alone."""
        self._permit.charge_seconds(seconds)

    def _add(self, tokens: int, now: float) -> None:
        assert self._last is not None
        if tokens:
            self._completion += tokens
            seconds = now - self._last
            self._context.times.decode += seconds
            self._context.times.decode_tokens += tokens
            if self._passed is None:
                self._passed = self._observer.between_tokens(self._context)
            self._passed(seconds / tokens, tokens)
        self._last = now

    def _begin(self, tokens: int, now: float) -> None:
        self._completion, self._last = tokens, now
        if self._context.times.first_token is None:
            self._context.times.first_token = now - self._context.arrival
            self._observer.first_token(self._context, self._context.times.first_token)
            self._context.progressed()
        if self._trace:
            self._trace.first_item()

    def count_prompt(self, prompt_tokens: int) -> None:
        """Count the prompt of a request that ends without an item: the engine has read it."""
        self._prompt = self._prompt or prompt_tokens

    def forget(self) -> None:
        """Charge nothing to a request that was preempted: it will read its prompt again."""
        self._prompt = self._cached = self._completion = 0

    def close(self) -> int:
        """Report what was used; returns its tokens."""
        self._context.tokens.prompt += self._prompt
        self._context.tokens.cached += self._cached
        self._context.tokens.completion += self._completion
        self._observer.used(self._context, self._prompt, self._cached, self._completion)
        if self._trace:
            self._trace.used(self._prompt, self._cached, self._completion)
        return self._prompt + self._completion


class MeteredSink:
    """Counts what an engine hands on, and hands it on to another sink.

    `structured` if the request asked for a structure, of which a cut answer is no whole one.
    """

    restart = None

    def __init__(
        self, sink: Sink, meter: Meter, context: RequestContext, *, structured: bool
    ) -> None:
        self._sink = sink
        self._meter = meter
        self._context = context
        self._structured = structured
        self._texts: TextSink | None = None

    def take(self, output: Output) -> TextSink | None:
        """Count an output and hand it on."""
        tokens = sum(len(part.token_ids) for part in output.parts)
        self._meter.total(output.prompt_tokens, output.cached_tokens, tokens, output.engine_wait)
        if output.mask_seconds:
            self._meter.charge_seconds(output.mask_seconds)
        if self._structured:
            self._note_ends(output)
        self._texts = self._sink.take(output)
        return None if self._texts is None else self

    def add(self, text: str, tokens: int) -> None:
        """Count a step of text alone, and hand it on."""
        self._meter.count(tokens)
        assert self._texts is not None
        self._texts.add(text, tokens)

    def release(self) -> None:
        """Have the text handed on that was kept."""
        assert self._texts is not None
        self._texts.release()

    def _note_ends(self, output: Output) -> None:
        """Note whether an answer of a structure was cut; its grammar holds the others."""
        for part in output.parts:
            if part.finish_reason is not None:
                answer, cut = self._context.extended(Answer), part.finish_reason == "length"
                answer.structure_cut = cut or bool(answer.structure_cut)
