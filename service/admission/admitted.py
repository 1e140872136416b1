"""An engine behind admission control: jobs, label reads and passages of the current request."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import Protocol, Self, TypeVar

from service.admission.controller import AdmissionController
from service.admission.queued_request import Demand
from service.admission.slots import HeldSlots, Preempted
from service.context import RequestContext, StreamTrace, current_context
from service.context.answer import Answer
from service.engine.contract import (
    Engine,
    Job,
    LabelLogprobs,
    LabelQuery,
    Output,
    Pooled,
    PoolQuery,
    Query,
    Sink,
    TextSink,
)
from service.errors import DeadlineExceeded
from service.tenants.tenant import CacheSalts, Tier


class Rank(IntEnum):
    """Priority of a request: by its tier, and by whether its tenant holds more than its share.

    Lower numbers go first when vLLM schedules prompts. If memory runs out, vLLM preempts the
    request with the larger number.
    """

    WITHIN_SHARE = 0
    ABOVE_SHARE = 1
    FLEX = 2

    @classmethod
    def of(cls, tier: Tier) -> Self:
        """The rank of a request of this tier, if its tenant is within its share."""
        return cls.FLEX if tier is Tier.FLEX else cls.WITHIN_SHARE


class StreamObserver(Protocol):
    """Is notified of engine requests after their context was updated; times are in seconds."""

    def queued_for(self, context: RequestContext, seconds: float) -> None: ...

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Record a request's first item, `seconds` after its arrival; called once a request."""

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        """Return a callback for later steps, which takes a step's time and number of tokens."""

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None: ...


class Meter:
    """Reports one engine request's tokens and times to its slots, context, observer and trace."""

    def __init__(
        self,
        context: RequestContext,
        observer: StreamObserver,
        held: HeldSlots,
        trace: StreamTrace | None,
    ) -> None:
        self._context = context
        self._observer = observer
        self._held = held
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
        """Count `tokens` new output tokens; `prompt` and `cached` are totals, not increments."""
        self._prompt, self._cached, now = prompt, cached, time.monotonic()
        if self._last is None:
            self._begin(tokens, now)
        else:
            self._add(tokens, now)
            engine_wait = None
        self._held.charge(prompt, cached, self._completion, engine_wait)

    def count(self, tokens: int) -> None:
        """Count output tokens after the first; they are charged with those of other streams."""
        self._add(tokens, time.monotonic())
        self._held.count(tokens)

    def charge_seconds(self, seconds: float) -> None:
        """Charge seconds of a CPU core that the engine spent on this request alone."""
        self._held.charge_seconds(seconds)

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
        """Count the prompt of a request without output: the engine has processed it anyway."""
        self._prompt = self._prompt or prompt_tokens

    def forget(self) -> None:
        """Reset the counts of a preempted run, which is not charged: the request starts again."""
        self._prompt = self._cached = self._completion = 0

    def close(self) -> int:
        """Report the tokens that the request used; returns the sum of prompt and output tokens."""
        self._context.tokens.prompt += self._prompt
        self._context.tokens.cached += self._cached
        self._context.tokens.completion += self._completion
        self._observer.used(self._context, self._prompt, self._cached, self._completion)
        if self._trace:
            self._trace.used(self._prompt, self._cached, self._completion)
        return self._prompt + self._completion


class MeteredSink:
    """Counts an engine's outputs and forwards them to another sink.

    `structured` is true if the request asked for structured output; such output is incomplete if it
    is cut.
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
        """Count an output and forward it."""
        tokens = sum(len(part.token_ids) for part in output.parts)
        self._meter.total(output.prompt_tokens, output.cached_tokens, tokens, output.engine_wait)
        if output.mask_seconds:
            self._meter.charge_seconds(output.mask_seconds)
        if self._structured:
            self._note_ends(output)
        self._texts = self._sink.take(output)
        return None if self._texts is None else self

    def add(self, text: str, tokens: int) -> None:
        """Count a step that only adds text, and forward it."""
        self._meter.count(tokens)
        assert self._texts is not None
        self._texts.add(text, tokens)

    def release(self) -> None:
        """Have the sink send the text that it buffers."""
        assert self._texts is not None
        self._texts.release()

    def _note_ends(self, output: Output) -> None:
        """Record whether a structured answer was cut; an uncut one follows its grammar."""
        for part in output.parts:
            if part.finish_reason is not None:
                answer, cut = self._context.extended(Answer), part.finish_reason == "length"
                answer.structure_cut = cut or bool(answer.structure_cut)


_MOST_RUNS = 4
"""The most runs of a request that is preempted; the output of all but the last is lost."""

Result = TypeVar("Result")


class Admitted:
    """Runs engine requests in the slots they are granted, for the request of the current task.

    The current request determines the id in the engine, the priority, the salt of cached prefixes
    and the trace; callers set none of these. The slots are released once the engine has ended the
    request; if the call fails or is cancelled, the engine's request is aborted first.
    """

    def __init__(
        self, engine: Engine, admission: AdmissionController, observer: StreamObserver
    ) -> None:
        self.engine = engine
        self._admission = admission
        self._observer = observer
        self._serial = itertools.count()
        self._salts = CacheSalts()

    async def run(self, job: Job, sink: Sink) -> None:
        """Run a generation, whose `max_tokens` must be set, into a sink.

        Raises the errors of `AdmissionController.acquire`, of the engine and of the sink, and the
        error with which admission control ends the request. A preempted generation starts again;
        there are at most four runs.
        """
        context, sampling = current_context(), job.sampling
        assert sampling.max_tokens is not None
        restartable = sink.restart is not None
        demand = Demand(len(job.prompt), sampling.max_tokens, sampling.n, restartable)
        structured = sampling.structure is not None and sampling.structure.asked

        async def run(meter: Meter) -> None:
            metered = MeteredSink(sink, meter, context, structured=structured)
            await self.engine.run(job, metered)

        await self._admit(job, demand, run, sink.restart)

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        """Read log-probabilities; raises the errors of `run`."""
        demand = Demand(len(query.prompt), 1, restartable=True)

        async def run(meter: Meter) -> LabelLogprobs:
            read = await self.engine.logprobs(query)
            meter.total(read.prompt_tokens, read.cached_tokens, 1, read.engine_wait)
            return read

        return await self._admit(query, demand, run, restart=lambda: None)

    async def pool(self, query: PoolQuery) -> Pooled:
        """Pool a passage, whose tokens are charged to the tenant; raises the errors of `run`."""

        async def run(meter: Meter) -> Pooled:
            found = await self.engine.pool(query)
            meter.total(found.prompt_tokens, found.cached_tokens, 0)
            return found

        return await self._admit(query, Demand(len(query.prompt), 0), run)

    async def _admit(
        self,
        query: Query,
        demand: Demand,
        work: Callable[[Meter], Awaitable[Result]],
        restart: Callable[[], None] | None = None,
    ) -> Result:
        """Run `work` with slots held, and again after each preemption, with a new id in the engine.

        The engine may still know the earlier id.
        """
        context = current_context()
        name = query.id = f"{context.request_id}-{next(self._serial)}"
        weights = query.adapter.engine_name if query.adapter else ""
        query.cache_salt = self._salts.salt(context.tenant, weights)
        query.priority = int(Rank.of(context.tier))
        for runs in range(1, _MOST_RUNS + 1):
            if runs == _MOST_RUNS:
                demand = replace(demand, restartable=False)
            try:
                return await self._run(query, demand, work, again=runs > 1)
            except Preempted:
                assert restart is not None
                query.id = f"{name}-{runs + 1}"
                restart()
        raise AssertionError("the last run gives way to none")

    async def _run(
        self,
        query: Query,
        demand: Demand,
        work: Callable[[Meter], Awaitable[Result]],
        *,
        again: bool,
    ) -> Result:
        """Run `work` once with slots held; raises Preempted, or what `acquire` raises."""
        context, asked = current_context(), time.monotonic()
        trace = context.trace.stream() if context.trace else None
        context.stream_began()
        try:
            reservation = await context.allowance.reserve(demand.most_tokens)
            held = await self._admission.acquire(context, demand, again=again)
            meter = Meter(context, self._observer, held, trace)
            try:
                self._observer.queued_for(context, time.monotonic() - asked)
                if isinstance(query, Job):
                    held.cut = partial(_cut, query, meter)
                if held.above_share:
                    query.priority = int(Rank.ABOVE_SHARE)
                if trace:
                    trace.granted()
                return await held.wait(partial(self._begin, query, work, meter))
            except (asyncio.CancelledError, DeadlineExceeded):
                meter.count_prompt(demand.prompt_tokens)
                raise
            except Preempted:
                meter.forget()
                raise
            finally:
                reservation.used = meter.close()
                held.release()
        finally:
            context.stream_ended()
            if trace:
                trace.ended()

    @staticmethod
    async def _begin(
        query: Query, work: Callable[[Meter], Awaitable[Result]], meter: Meter
    ) -> Result:
        """Let other tasks run once, so that concurrent requests are batched, then run `work`."""
        await asyncio.sleep(0)
        trace = current_context().trace
        if trace is not None:
            query.trace_headers = trace.headers  # of the stream that starts now
        return await work(meter)


def _cut(job: Job, meter: Meter) -> bool:
    """End a generation with the tokens that it has so far; False if it has none yet."""
    if not meter.tokens:
        return False
    job.end()
    return True
