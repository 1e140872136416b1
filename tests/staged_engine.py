"""A fake engine that a test can freeze and break, and that counts its requests."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from service.engine.protocol import Adapter, Chunk, LabelLogprobs, Prompt, Sampling, Vitals
from service.vllm.process import read_vitals
from tests.fake_engine import FakeEngine


class StagedEngine(FakeEngine):
    """FakeEngine that, after `spared` more tokens, waits while `frozen` and raises its `failure`.

    `pids` are processes that stand for the engine's own. `starts` counts requested generations and
    label reads, refused ones included.
    """

    starts = 0
    frozen = False
    failure: Exception | None = None
    spared = 0
    pids: Sequence[int] = ()

    def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: Adapter | None
    ) -> AsyncGenerator[Chunk, None]:
        self.starts += 1
        return super().generate(prompt, sampling, adapter)

    async def label_logprobs(
        self, prompt: Prompt, token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        self.starts += 1
        return await super().label_logprobs(prompt, token_ids, adapter)

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
