"""Encoders on vLLM's pooling runner: arguments, checks, the start, and the engine."""

import asyncio
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from vllm.entrypoints.pooling.scoring.utils import compress_token_type_ids
from vllm.pooling_params import PoolingParams
from vllm.v1.engine.async_llm import AsyncLLM

from service.adapters.heads import HeadManifest, verify_head
from service.admission.admitted import Admitted, StreamObserver
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.common.error_messages import quote
from service.engine.contract import Pooled, PoolQuery, Vitals
from service.engine.pooling import EncoderInfo, EncoderTask, Passage
from service.engine.texts import size_of
from service.errors import ConfigurationError, EngineDead, Interrupted, InvalidRequest, ServiceError
from service.models.encoder import EncoderModel, read_encoder
from service.models.file_list import checked_digest
from service.models.passages import PassageReader
from service.settings import section as platform
from service.settings.admission import PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import Settings
from service.vllm.argument_checks import BY_STOCK, by_vllms_names
from service.vllm.arguments import (
    parse_engine_arguments,
    parsed_arguments,
    prepare_machine,
    stated_arguments,
    type_for_processor,
    without_gpu,
)
from service.vllm.environment import COMPILER_OFF, THREAD_BINDING, is_eager, joined, variables_set
from service.vllm.self_check import checked
from service.vllm.stat_loggers import StepClock
from service.vllm.stock import StockEngine
from service.vllm.worker import WORKER_EXTENSION

USES = (
    "reads vllm.config.model:ModelConfig.embedding_size, encoder_config, matryoshka_dimensions",
    "fields of vllm.pooling_params:PoolingParams",
)

_REFUSED = {
    "runner": "an encoder's runner is always `pooling`",
    "convert": "the model's class decides",
    "enable_lora": "encoders have no adapters",
}
_SHARE = "gpu_memory_utilization"
_ROUNDING = 1e-6


def parse_encoder_arguments(encoder: EncoderSettings) -> Namespace:
    """vLLM's argument namespace of an encoder; raises as `parse_engine_arguments`."""
    stated = stated_arguments(encoder.engine)
    for name in _REFUSED.keys() & stated.keys():
        raise ConfigurationError(f"engine.{name}: not accepted here; {_REFUSED[name]}")
    for name in BY_STOCK.keys() & stated.keys():
        raise ConfigurationError(f"engine.{name}: not accepted here; encoders have none")
    return parsed_arguments(
        {
            **stated,
            **type_for_processor(stated),
            "model": str(encoder.path),
            "served_model_name": [encoder.name],
            "runner": "pooling",
            "scheduling_policy": "priority",
            "worker_extension_cls": WORKER_EXTENSION,
        }
    )


def check_shares(settings: Settings) -> None:
    """Raise ConfigurationError if the engines' shares of a GPU's memory add up to more than 1.

    The CPU build does not use these shares, because `cpu.kv_cache_gib` sets the memory. The sum is
    checked all the same, so that the configuration is also valid on a GPU.
    """
    if not settings.encoders:
        return
    shares = {}
    if settings.model is None:
        prepare_machine(settings)
    else:
        shares[settings.model.name] = float(getattr(parse_engine_arguments(settings), _SHARE))
    for encoder in settings.encoders:
        with named(encoder):
            shares[encoder.name] = float(getattr(parse_encoder_arguments(encoder), _SHARE))
    if sum(shares.values()) > 1 + _ROUNDING:
        told = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise ConfigurationError(
            f"engine.{_SHARE}: the shares of all engines must be at most 1 together, got {told}"
        )


@contextmanager
def named(encoder: EncoderSettings) -> Iterator[None]:
    """Add the encoder's name to a ConfigurationError of the block."""
    try:
        yield
    except Interrupted:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"encoder {encoder.name}: {error}") from error


def environment_of(encoder: EncoderSettings) -> AbstractContextManager[None]:
    """Set environment variables for the processes of this engine only, while they start."""
    return variables_set(
        {
            COMPILER_OFF: "1" if is_eager(encoder.engine) else None,
            THREAD_BINDING: joined(os.environ.get(THREAD_BINDING)),
        }
    )


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
    """A stream observer that also counts the texts that were cut to a model's context."""

    def text_cut(self, model: str) -> None: ...


class VllmEncoder:
    """An encoder on AsyncLLM behind admission control; implements `pooling.EncoderEngine`."""

    def __init__(
        self,
        llm: AsyncLLM,
        steps: StepClock,
        info: EncoderInfo,
        admission: AdmissionController,
        observer: EncoderObserver,
        preparation: PreparationSettings,
        pids: Sequence[int],
    ) -> None:
        self._steps = steps
        self.info = info
        self._observer = observer
        self._preparation = Preparation(admission, preparation)
        self._engine = StockEngine(llm, pids, pooling=PoolingParams(**_PARAMS[info.task]))
        self._admitted = Admitted(self._engine, admission, observer)
        self._vocab_size: int = llm.model_config.get_vocab_size()
        # From sentence-transformers' own file, whose other key vLLM reads into max_model_len.
        lower = bool((llm.model_config.encoder_config or {}).get("do_lower_case"))
        tokenizer = llm.renderer.get_tokenizer()
        try:
            self._reader = PassageReader(tokenizer, lower=lower)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    async def read(
        self, text: str, second: str | None = None, *, most: int | None = None
    ) -> Passage:
        work = partial(self._reader.read, text, second, most=most)
        passage = await self._preparation.run_prompt(size_of(text) + size_of(second or ""), work)
        self._check_length(passage.token_ids)
        return self._counted(passage)

    def passage(self, token_ids: Sequence[int], *, most: int | None = None) -> Passage:
        if most is None:
            self._check_length(token_ids)
        kept = list(token_ids[:most])
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


class CheckedEncoder(NamedTuple):
    """The digest and the task of an encoder whose files can be served.

    `head` is the manifest of a head that `finetune` packed.
    """

    digest: str
    model: EncoderModel
    head: HeadManifest | None


def check_encoder(encoder: EncoderSettings) -> CheckedEncoder:
    """The digest, the task and the head of an encoder, from its files alone.

    Raises ConfigurationError, naming the encoder, for files that cannot be served.
    """
    with named(encoder):
        digest = checked_digest(encoder.path, encoder.digest, "digest")
        pooling_stated = "pooler_config" in by_vllms_names(encoder.engine)
        model = read_encoder(encoder.path, pooling_stated=pooling_stated)
        return CheckedEncoder(digest, model, verify_head(encoder.path, model, encoder.digest))


def check_encoders(settings: Settings, *, here: bool = True) -> dict[str, CheckedEncoder]:
    """The required encoders by name, checked before any engine runs: memory, arguments, files.

    If `here` is false, folders and GPUs may be missing on this machine. Raises ConfigurationError;
    faults of files count only for required encoders.
    """
    if here or not without_gpu():
        check_shares(settings)
    return {
        encoder.name: check_encoder(encoder)
        for encoder in settings.encoders
        if encoder.required and (here or encoder.path.is_dir())
    }


def check_task(task: EncoderTask, offered: Sequence[str]) -> None:
    """Raise ConfigurationError if vLLM does not offer what a task needs."""
    if _PARAMS[task]["task"] not in offered:
        raise ConfigurationError(
            f"its pooling does not give what the task {task} needs; vLLM offers "
            f"{', '.join(offered) or 'nothing'} for this model"
        )


def encoder_info(encoder: EncoderSettings, checked: CheckedEncoder, llm: Any) -> EncoderInfo:
    """The description of a started encoder for the service."""
    model, config = checked.model, llm.model_config
    width: int = config.embedding_size if model.task == "embed" else max(1, len(model.labels))
    dimensions: Sequence[int] | None = None
    if model.task == "embed" and config.is_matryoshka:
        dimensions = tuple(config.matryoshka_dimensions or ()) or range(1, width + 1)
    head = checked.head
    return EncoderInfo(
        encoder.name,
        checked.digest,
        model.task,
        config.max_model_len,
        llm.vllm_config.scheduler_config.max_num_seqs,
        width,
        labels=model.labels,
        multi_label=model.multi_label,
        temperature=head.calibration.temperature if head else 1.0,
        conformal=head.conformal if head else None,
        guard=head.guard_threshold if head else None,
        reference=head.reference if head else None,
        dimensions=dimensions,
        truncate=encoder.truncate,
        prompts=model.prompts if encoder.prompts is None else encoder.prompts,
    )
