"""Tokens and times of one engine stream, told to all that count them."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from service.context import RequestContext, StreamTrace
from service.engine.contract import Progress
from service.gate.permit import Permit


class StreamObserver(Protocol):
    """Learns what streams did, once the request's context is up to date; times in seconds."""

    def queued_for(self, context: RequestContext, seconds: float) -> None: ...

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Note that a request's first item came `seconds` after its arrival; once a request."""

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        """A function that takes the time between two tokens, and how many tokens took it."""

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None: ...


class Meter:
    """Counts one engine stream: for its permit, the request, the observer and the trace."""

    def __init__(
        self,
        context: RequestContext,
        observer: StreamObserver,
        permit: Permit,
        trace: StreamTrace | None,
    ) -> None:
        self.ticket: Final = permit.ticket
        """The ticket that the stream runs under."""
        self._context = context
        self._observer = observer
        self._permit = permit
        self._trace = trace
        self._passed: Callable[[float, int], None] | None = None
        self._prompt = self._cached = self._completion = 0
        self._last: float | None = None

    @property
    def begun(self) -> bool:
        """True once the first item was counted."""
        return self._last is not None

    @property
    def tokens(self) -> int:
        """Output tokens counted so far."""
        return self._completion

    def add(self, item: Progress) -> None:
        """Count an item, at the gate too."""
        now = time.monotonic()
        self._prompt, self._cached = item.prompt_tokens, item.cached_tokens
        engine_wait = None
        if self._last is None:
            self._begin(item.new_tokens, now)
            engine_wait = item.engine_wait
        else:
            self.count(item.new_tokens, now)
        if item.mask_seconds:
            self._permit.charge_seconds(item.mask_seconds)
        if item.cut is not None:
            self._context.structure_cut = item.cut or bool(self._context.structure_cut)
        self._permit.charge(self._prompt, self._cached, self._completion, engine_wait)

    def count(self, tokens: int, now: float) -> None:
        """Count tokens after the first item, but not at the gate (`Gate.charge_step`)."""
        assert self._last is not None
        if tokens:
            self._completion += tokens
            seconds = now - self._last
            self._context.decode_seconds += seconds
            self._context.decode_tokens += tokens
            if self._passed is None:
                self._passed = self._observer.between_tokens(self._context)
            self._passed(seconds / tokens, tokens)
        self._last = now

    def _begin(self, tokens: int, now: float) -> None:
        self._completion, self._last = tokens, now
        if self._context.first_token_seconds is None:
            self._context.first_token_seconds = now - self._context.arrival
            self._observer.first_token(self._context, self._context.first_token_seconds)
            self._context.progressed()
        if self._trace:
            self._trace.first_item()

    def count_prompt(self, prompt_tokens: int) -> None:
        """Count the prompt of a stream that ends without an item: the engine has read it."""
        self._prompt = self._prompt or prompt_tokens

    def forget(self) -> None:
        """Charge nothing to a request that was preempted: it will read its prompt again."""
        self._prompt = self._cached = self._completion = 0

    def close(self) -> int:
        """Report what was used; returns its tokens."""
        self._context.prompt_tokens += self._prompt
        self._context.cached_tokens += self._cached
        self._context.completion_tokens += self._completion
        self._observer.used(self._context, self._prompt, self._cached, self._completion)
        if self._trace:
            self._trace.used(self._prompt, self._cached, self._completion)
        return self._prompt + self._completion
