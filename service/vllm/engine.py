"""The engine of a language model: vLLM's, by the client that passed the self-check."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from service.engine.contract import Job, LabelQuery, PoolQuery, Sink
from service.engine.pooling import Pooled
from service.engine.protocol import Adapter, AdapterUsage, LabelLogprobs, ModelInfo, Vitals
from service.errors import UnsupportedFeature
from service.vllm.errors import explained
from service.vllm.ranks import on_each_rank
from service.vllm.self_check import differing
from service.vllm.stat_loggers import StepClock
from service.vllm.stock import StockEngine
from service.vllm.warm_up import warm_up

_log = logging.getLogger(__name__)


class VllmEngine:
    """Implements `engine.contract.LanguageEngine`; `reads_labels` False where labels are refused.

    The fast client is left for the public one if the self-check finds that they answer otherwise.
    """

    def __init__(
        self,
        llm: Any,
        engine: StockEngine,
        model: ModelInfo,
        steps: StepClock,
        *,
        reads_labels: bool = True,
    ) -> None:
        self._llm = llm
        self.engine = engine
        self.model = model
        self._steps = steps
        self._reads_labels = reads_labels

    async def run(self, job: Job, sink: Sink) -> None:
        await self.engine.run(job, sink)

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        if not self._reads_labels:
            raise UnsupportedFeature("This engine drafts tokens, and reads no labels beside them.")
        return await self.engine.logprobs(query)

    async def pool(self, query: PoolQuery) -> Pooled:
        raise UnsupportedFeature("This model is served for generation and classification only.")

    async def load(self, adapter: Adapter) -> None:
        await self.engine.load(adapter)

    async def unload(self, adapter: Adapter) -> None:
        await self.engine.unload(adapter)

    async def resident(self) -> frozenset[int]:
        return await self.engine.resident()

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        return await self.engine.adapters()

    @property
    def last_step(self) -> float:
        return self._steps.last_step

    def vitals(self) -> Vitals | None:
        return self.engine.vitals()

    async def probe(self) -> None:
        await self.engine.probe()

    async def check(self) -> None:
        await self.engine.check()

    async def warm_up(self) -> None:
        with explained():
            for llm in on_each_rank(self._llm):
                await warm_up(llm, self.engine.untraced)
        (prompt,) = self._llm.renderer.render_cmpl([{"prompt": "Hello"}])
        tokens = prompt["prompt_token_ids"]
        if found := await differing(self.engine, tokens, labels=self._reads_labels):
            note = f"the fast client answers otherwise: {', '.join(found)}"
            _log.warning("engine.client: the public client is used from now on: %s", note)
            self.engine = self.engine.public
            notes = (*self.model.client_notes, note)
            self.model = replace(self.model, client="stock", client_notes=notes)

    async def stop(self) -> None:
        await self.engine.stop()
