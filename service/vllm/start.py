"""The engines of one service on vLLM, and their start behind admission control."""

import asyncio
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from service.admission.admitted import StreamObserver
from service.admission.controller import AdmissionController
from service.engine.contract import ModelInfo
from service.models.file_list import checked_digest
from service.runtime.parts import engine_reports
from service.settings import section as platform
from service.settings.admission import PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import Settings
from service.vllm.argument_checks import is_remote, stock_only
from service.vllm.arguments import (
    engine_config,
    parse_engine_arguments,
    with_budget,
    without_gpu,
)
from service.vllm.cpu.forkserver import begin_seed
from service.vllm.encoder import (
    CheckedEncoder,
    EncoderObserver,
    VllmEncoder,
    check_encoder,
    check_encoders,
    check_task,
    encoder_info,
    environment_of,
    named,
    parse_encoder_arguments,
)
from service.vllm.engine import VllmEngine, engine_processes, start_llm
from service.vllm.model_facts import model_info
from service.vllm.process import (
    interruptible,
    of_all_workers,
    rank_behind_model,
)
from service.vllm.remote.start import check_remote, start_remote
from service.vllm.self_check import reads_labels
from service.vllm.served import VllmModel, served_model
from service.vllm.stat_loggers import NamedAdapterStats, NoSeries, StepClock
from service.vllm.stock import on_each_rank
from service.vllm.structured_outputs import GrammarSandbox, open_sandbox
from service.vllm.texts import VllmTexts
from service.vllm.versions import Choice, choose, installed_version

USES = ("replaces vllm.v1.engine.input_processor:InputProcessor.structured_outputs_config",)

_log = logging.getLogger(__name__)

_NO_ECHOES = (
    "limits.echo_logprobs: 0 on this engine; beside adapters vLLM cannot compute the prompts' "
    "log-probabilities of a model with an output layer of its own"
)


def engine_class(client: str) -> type[VllmEngine]:
    """The class of a language model's engine for a client, `stock` or `fast`.

    The fast client imports names that another version of vLLM may lack, so it is imported only if
    chosen.
    """
    if client == "stock":
        return VllmEngine
    from service.vllm.fast.engine import FastEngine

    return FastEngine


async def start_vllm(
    settings: Settings,
    admission: AdmissionController,
    observer: StreamObserver,
    launched: asyncio.Event | None = None,
) -> VllmModel:
    """Start the engine of the configured model; ConfigurationError if it cannot start.

    `launched` is set when another engine may start.
    """
    begin_seed(settings)
    steps = StepClock()
    sandbox = GrammarSandbox(admission, settings.preparation)
    try:
        arguments = parse_engine_arguments(settings)
        choice = choose(settings.engine.get("client", "auto"), stock_only(settings.engine))
        engine_type = engine_class(choice.client)
        with interruptible():
            digest = checked_digest(settings.base.path, settings.base.digest)
            config = with_budget(engine_config(arguments))
            engine_reports(config, settings)
            sandbox.begin()
        llm = await start_llm(choice, config, steps, NamedAdapterStats, launched=launched)
        await open_sandbox(sandbox, llm)
    except BaseException:
        sandbox.stop()
        raise
    model = await _model_info(llm, arguments, settings, digest, choice)
    # vLLM's client would compile structures again, on the event loop, for seconds.
    llm.input_processor.structured_outputs_config = None
    pids = await engine_processes(llm)
    engine = engine_type(llm, pids, model, steps, reads_labels=await reads_labels(llm))
    texts = VllmTexts(llm, settings)
    return await served_model(engine, llm, arguments, settings, texts, sandbox, admission, observer)


async def _model_info(
    llm: Any, arguments: Namespace, settings: Settings, digest: str, choice: Choice
) -> ModelInfo:
    """The model as served, once its workers are prepared."""
    await llm.collective_rpc("keep_rows_apart")
    lora, echoes = llm.vllm_config.lora_config, True
    if lora:
        await llm.collective_rpc("count_adapter_reads")
        echoes = all(await of_all_workers(llm, "reads_prompts"))
        if not echoes:
            _log.warning(_NO_ECHOES)
    return model_info(
        llm,
        arguments,
        settings,
        digest,
        max_num_seqs=llm.vllm_config.scheduler_config.max_num_seqs * len(on_each_rank(llm)),
        max_lora_rank=lora.max_lora_rank if lora else 0,
        client=choice.client,
        version=installed_version(),
        client_notes=choice.notes,
        echoes=echoes,
    )


class VllmEngines:
    """Starts the engines.

    The encoders' files are checked first, because starting the model's engine takes most of the
    time, and a bad file should be reported before that.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.launched = asyncio.Event()
        """Set when the model's engine has been launched, whatever it is: encoders may start."""

    async def start_model(
        self, settings: Settings, admission: AdmissionController, observer: StreamObserver
    ) -> VllmModel:
        """Start the model's engine; raises as `check_encoders` and `start_vllm`."""
        _ = self._checked
        if is_remote(settings.engine):
            self.launched.set()
            return await start_remote(settings, admission, observer)
        return await start_vllm(settings, admission, observer, self.launched)

    async def start_encoder(
        self,
        encoder: EncoderSettings,
        admission: AdmissionController,
        observer: EncoderObserver,
        preparation: PreparationSettings,
    ) -> VllmEncoder:
        """Start an encoder's engine; ConfigurationError, naming it, if it cannot start.

        It waits until the model's engine, if there is one, has been `launched`. On the CPU build an
        encoder has lower CPU priority than the model's engine.
        """
        if self._settings.model is not None:
            await self.launched.wait()
        checked = self._checked.get(encoder.name)
        if checked is None:
            with interruptible():
                checked = check_encoder(encoder)
        with named(encoder):
            arguments = parse_encoder_arguments(encoder)
            steps = StepClock()
            choice = choose(encoder.engine.get("client", "auto"))
            with interruptible():
                config = engine_config(arguments)
            with environment_of(encoder):
                llm = await start_llm(choice, config, steps, NoSeries)
            try:
                check_task(checked.model.task, await llm.get_supported_tasks())
                info = encoder_info(encoder, checked, llm)
                pids = await engine_processes(llm)
                if self._settings.model is not None and platform.installed() is platform.CPU:
                    rank_behind_model(pids)
                admission.capacity = encoder.max_in_flight or info.max_num_seqs
                return VllmEncoder(llm, steps, info, admission, observer, preparation, pids)
            except BaseException:
                llm.shutdown()
                raise

    @cached_property
    def _checked(self) -> Mapping[str, CheckedEncoder]:
        """The encoders that must start, by name."""
        with interruptible():
            return check_encoders(self._settings)


def check_engines(settings: Settings) -> str:
    """Check a configuration without starting its engines; returns reports on client and memory.

    Raises ConfigurationError if an engine cannot fit or refuses its arguments, and if
    `engine.client` is `fast` and cannot be used.
    """
    check_encoders(settings, here=False)
    if is_remote(settings.engine):
        return "\n".join(check_remote(settings))
    engine = settings.engine if settings.model else settings.encoders[0].engine
    client, notes = choose(engine.get("client", "auto"), stock_only(engine))
    lines = [
        "; ".join([f"engine: vLLM {installed_version()}, reached by its {client} client", *notes])
    ]
    return "\n".join([*lines, *_memory_reports(settings)])


def _memory_reports(settings: Settings) -> Sequence[str]:
    """The estimate as a table, or a sentence on why there is none here.

    A model or a GPU that is not on this machine is no error, so that a configuration for another
    machine can be checked.
    """
    if settings.model is None:
        return ["memory: not estimated: there are encoders only"]
    if without_gpu():
        return ["memory: not estimated: this machine has no GPU, which this build of vLLM needs"]
    arguments = parse_engine_arguments(settings)
    if not settings.model.path.is_dir():
        return [f"memory: not estimated: {settings.model.path} is not on this machine"]
    return engine_reports(engine_config(arguments), settings)
