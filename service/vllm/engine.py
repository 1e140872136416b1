"""The engine of a language model by vLLM's public client, and the start of vLLM's process."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from service.engine.contract import LabelLogprobs, LabelQuery, ModelInfo, Pooled, PoolQuery
from service.errors import ConfigurationError, UnsupportedFeature
from service.settings import section as platform
from service.vllm.conversion import explained
from service.vllm.cpu.forkserver import use_seed
from service.vllm.process import NewChildren, workers_here
from service.vllm.self_check import differing, warm_up
from service.vllm.stat_loggers import StepClock
from service.vllm.stock import StockEngine
from service.vllm.versions import Choice, installed_version

USES = (
    "calls vllm.v1.engine.async_llm:AsyncLLM.from_vllm_config",
    "reads vllm.v1.engine.core_client:BackgroundResources.engine_manager",
    "reads vllm.v1.engine.utils:CoreEngineProcManager.processes",
)

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1


class VllmEngine(StockEngine):
    """Implements `engine.contract.LanguageEngine`; refuses label reads unless `reads_labels`."""

    def __init__(
        self,
        llm: AsyncLLM,
        pids: Sequence[int],
        model: ModelInfo,
        steps: StepClock,
        *,
        reads_labels: bool = True,
    ) -> None:
        super().__init__(llm, pids)
        self.model = model
        self._steps = steps
        self._reads_labels = reads_labels

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        if not self._reads_labels:
            raise UnsupportedFeature("This engine drafts tokens, and reads no labels beside them.")
        return await super().logprobs(query)

    async def pool(self, query: PoolQuery) -> Pooled:
        raise UnsupportedFeature("This model is served for generation and classification only.")

    @property
    def last_step(self) -> float:
        return self._steps.last_step

    async def warm_up(self) -> None:
        """Run each code path once; give up the fast client if its results differ."""
        with explained():
            await warm_up(self._llm, self.untraced)
        (prompt,) = self._llm.renderer.render_cmpl([{"prompt": "Hello"}])
        tokens = prompt["prompt_token_ids"]
        if found := await differing(self, tokens, labels=self._reads_labels):
            note = f"the fast client answers otherwise: {', '.join(found)}"
            _log.warning("engine.client: the public client is used from now on: %s", note)
            notes = (*self.model.client_notes, note)
            self.model = replace(self.model, client="stock", client_notes=notes)


async def start_llm(
    choice: Choice, config: Any, *stat_loggers: Any, launched: asyncio.Event | None = None
) -> AsyncLLM:
    """Start vLLM's engine process, and wait in a thread until it can serve.

    `launched` is set when another engine may start: on the CPU build once the process has begun,
    elsewhere once it has measured the memory that is left. A cancellation ends the process.
    `stat_loggers` are factories of vLLM's stat loggers, which are called after every engine step.
    Raises ConfigurationError if it cannot start.
    """
    _log.info("starting vLLM %s, reached by its %s client", installed_version(), choice.client)
    if choice.notes:
        _log.warning("engine.client: %s", "; ".join(choice.notes))
    use_seed()
    launched = launched or asyncio.Event()
    early = platform.installed() is platform.CPU and config.parallel_config.data_parallel_size == 1
    context, loggers = UsageContext.OPENAI_API_SERVER, list(stat_loggers)
    begin = partial(AsyncLLM.from_vllm_config, config, usage_context=context, stat_loggers=loggers)
    children = NewChildren()
    starting = asyncio.create_task(asyncio.to_thread(begin))
    try:
        while not (launched.is_set() or starting.done()):
            await asyncio.wait([starting], timeout=_LOOK_SECONDS)
            if early and children.found():
                launched.set()
        llm = await asyncio.shield(starting)
    except asyncio.CancelledError:
        while not starting.done():
            children.terminate()
            await asyncio.wait([starting], timeout=_LOOK_SECONDS)
        if starting.exception() is None:
            starting.result().shutdown()
        raise
    except RuntimeError as error:
        raise ConfigurationError(
            f"engine: could not start: {error}; its own log above says why"
        ) from error
    launched.set()
    if choice.client == "fast":
        from service.vllm.fast.transport import EngineTransport

        EngineTransport.replace(llm)
    return llm


async def engine_processes(llm: AsyncLLM) -> list[int]:
    """The ids of an engine's processes on this node: its cores and its workers."""
    manager = llm.engine_core.resources.engine_manager
    cores = [process.pid for process in getattr(manager, "processes", ())]  # not those of Ray
    return [*cores, *await workers_here(llm)]
