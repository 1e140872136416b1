"""An engine that counts up, and what admission control before it tells."""

import asyncio
from collections.abc import Callable
from functools import partial

import numpy as np

from service.context import RequestContext
from service.engine.contract import (
    Job,
    LabelLogprobs,
    LabelQuery,
    ModelInfo,
    Output,
    Part,
    Pooled,
    PoolQuery,
    Sink,
)
from tools.fake_engine import FakeEngine

_MODEL = ModelInfo("counting", "sha256:counting", 512, 2, max_token_chars=1)


class Recorder:
    """Implements `meter.StreamObserver`; remembers what it was told."""

    def __init__(self) -> None:
        self.first_tokens = self.grants = self.later_tokens = 0
        self.usage: list[tuple[int, int, int]] = []

    def queued_for(self, context: RequestContext, seconds: float) -> None:
        self.grants += 1

    def first_token(self, context: RequestContext, seconds: float) -> None:
        self.first_tokens += 1

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        return self._passed

    def _passed(self, seconds: float, times: int) -> None:
        self.later_tokens += times

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None:
        self.usage.append((prompt, cached, completion))


class CountingEngine(FakeEngine):
    """Answers with the numbers from 0 to `last` - 1, one a step and two tokens each.

    After each step it waits while `hold` is not set. A `silent` one never comes to its first step,
    and `failure` is raised after the last. `seen` is what it was asked, as far as admission says
    it.
    """

    def __init__(
        self, last: int = 3, failure: Exception | None = None, *, silent: bool = False
    ) -> None:
        super().__init__(_MODEL)
        self.started = self.aborted = 0
        self.seen: list[tuple[str, str, int]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self._last = last
        self._failure = failure
        self._silent = silent

    async def run(self, job: Job, sink: Sink) -> None:
        cut = asyncio.Event()
        job.end = partial(self._cut, cut)
        self._begin(job)
        try:
            if self._silent:
                await asyncio.Event().wait()
            texts = None
            for number in range(self._last):
                last = number == self._last - 1 or cut.is_set()
                if texts is None or last:
                    reason = "length" if last else None
                    part = Part(0, str(number), [number, number], reason)
                    texts = sink.take(Output([part], 7, 5))
                else:
                    texts.add(str(number), 2)
                if last:
                    break
                await self.hold.wait()
            if self._failure:
                raise self._failure
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    def _cut(self, cut: asyncio.Event) -> None:
        cut.set()
        self.hold.set()

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        self._begin(query)
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1
        return LabelLogprobs([-1.0], likeliest=0, prompt_tokens=7, cached_tokens=5)

    async def pool(self, query: PoolQuery) -> Pooled:
        self._begin(query)
        self.running -= 1
        return Pooled(np.zeros(1, np.float32), prompt_tokens=7, cached_tokens=5)

    def _begin(self, query: Job | LabelQuery | PoolQuery) -> None:
        self.started += 1
        self.running += 1
        self.seen.append((query.id, query.cache_salt, query.priority))
