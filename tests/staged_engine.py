"""A fake engine that a test can freeze and break, and that counts its requests."""

import asyncio
from collections.abc import Sequence

from service.engine.contract import Job, LabelLogprobs, LabelQuery, Sampling, Sink, Vitals
from service.vllm.process import read_vitals
from tools.fake_engine import FakeEngine, FakeModel


class StagedEngine(FakeEngine):
    """FakeEngine that, after `spared` more tokens, waits while `frozen` and raises its `failure`.

    `pids` are processes that stand for the engine's own. `starts` counts generations and
    label reads that were admitted; `sampled` is how the last generation samples.
    """

    starts = 0
    sampled: Sampling | None = None
    frozen = False
    failure: Exception | None = None
    spared = 0
    pids: Sequence[int] = ()

    async def run(self, job: Job, sink: Sink) -> None:
        self.starts += 1
        self.sampled = job.sampling
        await super().run(job, sink)

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        self.starts += 1
        return await super().logprobs(query)

    def vitals(self) -> Vitals | None:
        return read_vitals(self.pids)

    async def pause(self) -> None:
        if not self.spared:
            while self.frozen:  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(0.001)
        await super().pause()
        if self.spared:
            self.spared -= 1
            return
        if self.failure:
            raise self.failure


class StagedModel(FakeModel):
    """A staged engine as the service serves it."""

    raw: StagedEngine
