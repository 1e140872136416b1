"""An encoder on vLLM's AsyncLLM, behind the service's protocol."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from vllm.entrypoints.pooling.scoring.utils import compress_token_type_ids
from vllm.pooling_params import PoolingParams
from vllm.v1.engine.async_llm import AsyncLLM

from service.admission.admitted import Admitted, StreamObserver
from service.admission.gate import Gate
from service.admission.preparation import Preparation
from service.common.error_messages import quote
from service.engine.contract import PoolQuery
from service.engine.passage_reader import PassageReader
from service.engine.pooling import EncoderInfo, EncoderTask, Passage, Pooled
from service.engine.protocol import Vitals
from service.engine.text_size import size_of
from service.errors import ConfigurationError, EngineDead, InvalidRequest, ServiceError
from service.settings import section as platform
from service.settings.gate import PreparationSettings
from service.vllm.self_check import checked
from service.vllm.stat_loggers import StepClock
from service.vllm.stock import StockEngine

USES = (
    "reads vllm.config.model:ModelConfig.encoder_config",
    "calls vllm.entrypoints.pooling.scoring.utils:compress_token_type_ids",
    "fields of vllm.pooling_params:PoolingParams",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_PARAMS: dict[EncoderTask, dict[str, Any]] = {
    "embed": {"task": "embed"},
    # With the function that the model's configuration names, a sigmoid if it names none.
    "score": {"task": "classify", "use_activation": True},
    # Logits: their distribution is computed as that of every classifier.
    "classify": {"task": "classify", "use_activation": False},
}


_KINDS: dict[EncoderTask, str] = {
    "embed": "an embedding",
    "score": "a pair",
    "classify": "a classification",
}


class EncoderObserver(StreamObserver, Protocol):
    """Counts the texts that were cut to a model's context."""

    def text_cut(self, model: str) -> None: ...


class VllmEncoder:
    """AsyncLLM with the gate in front; has every role of `engine.pooling`."""

    def __init__(
        self,
        llm: AsyncLLM,
        steps: StepClock,
        info: EncoderInfo,
        gate: Gate,
        observer: EncoderObserver,
        preparation: PreparationSettings,
        pids: Sequence[int],
    ) -> None:
        self._steps = steps
        self.info = info
        self._observer = observer
        self._preparation = Preparation(gate, preparation)
        self._engine = StockEngine(llm, pids, pooling=PoolingParams(**_PARAMS[info.task]))
        self._admitted = Admitted(self._engine, gate, observer)
        self._vocab_size: int = llm.model_config.get_vocab_size()
        # From sentence-transformers' own file, whose other key vLLM reads into max_model_len.
        lower = bool((llm.model_config.encoder_config or {}).get("do_lower_case"))
        tokenizer = llm.renderer.get_tokenizer()
        try:
            self._reader = PassageReader(tokenizer, info.max_model_len, lower=lower)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    async def read(
        self, text: str, second: str | None = None, *, truncate: bool = False
    ) -> Passage:
        work = partial(self._reader.read, text, second, truncate=truncate)
        passage = await self._preparation.run_prompt(size_of(text) + size_of(second or ""), work)
        self._check_length(passage.token_ids)
        return self._counted(passage)

    def passage(self, token_ids: Sequence[int], *, truncate: bool = False) -> Passage:
        if not truncate:
            self._check_length(token_ids)
        kept = list(token_ids[: self.info.max_model_len])
        for token_id in kept:
            if not 0 <= token_id < self._vocab_size:
                raise InvalidRequest(
                    f"token ids are 0..{self._vocab_size - 1}, got {quote(token_id)}"
                )
        return self._counted(Passage(kept, cut=len(kept) < len(token_ids)))

    def _counted(self, passage: Passage) -> Passage:
        if passage.cut:
            self._observer.text_cut(self.info.name)
        return passage

    def _check_length(self, token_ids: Sequence[int]) -> None:
        if len(token_ids) > (most := self.info.max_model_len):
            raise InvalidRequest(
                f"{len(token_ids)} tokens are more than the model's context of {most}; "
                "`truncate` cuts them",
                code="context_length_exceeded",
            )

    async def pool(
        self, passage: Passage, dimensions: int | None = None, *, raw: bool = False
    ) -> Pooled:
        params = self._params(passage, dimensions, raw=raw)
        return await self._admitted.pool(PoolQuery(passage.token_ids, params))

    def _params(
        self, passage: Passage, dimensions: int | None, *, raw: bool = False
    ) -> PoolingParams:
        extra = None
        if passage.second_at is not None:
            first, tokens = passage.second_at, len(passage.token_ids)
            types = compress_token_type_ids([0] * first + [1] * (tokens - first))
            extra = {"compressed_token_type_ids": types}
        params = _PARAMS[self.info.task] | ({"use_activation": False} if raw else {})
        return PoolingParams(dimensions=dimensions, extra_kwargs=extra, **params)

    @property
    def last_step(self) -> float:
        return self._steps.last_step

    def vitals(self) -> Vitals | None:
        return self._engine.vitals()

    async def probe(self) -> None:
        await self._engine.probe()

    async def check(self) -> None:
        try:
            await self._engine.check()
        except EngineDead as error:
            message = f"The engine of {self.info.name} has ended."
            raise EngineDead(message, retry_after=5) from error

    async def warm_up(self) -> None:
        here = platform.installed()
        try:
            async with asyncio.timeout(here.warm_up_s):
                await self.probe()
        except TimeoutError as error:
            raise ConfigurationError(
                f"engine: its first request took more than {here.warm_up_s:g} s"
            ) from error
        await checked(_KINDS[self.info.task], self._one_passage)

    async def _one_passage(self) -> None:
        """Read and pool one passage, as the first request will."""
        second = "pair" if self.info.task == "score" else None
        pooled = await self.pool(await self.read("a", second))
        if pooled.values.size != (wanted := self.info.width):
            raise ServiceError(f"{pooled.values.size} values of a passage, where {wanted} are due")

    async def stop(self) -> None:
        await self._engine.stop()
        self._preparation.stop()
