"""Starting an encoder's engine behind its gate."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from service.adapters.heads import HeadManifest, verified_head
from service.admission.gate import Gate
from service.engine.pooling import EncoderInfo, EncoderTask
from service.errors import ConfigurationError
from service.models.encoder import EncoderModel, read_encoder
from service.models.model_files import checked_digest
from service.settings import section as platform
from service.settings.encoders import EncoderSettings
from service.settings.gate import PreparationSettings
from service.settings.tree import Settings
from service.vllm.arguments import engine_config, without_gpu
from service.vllm.clients import client_for
from service.vllm.cpu.scheduling import rank_behind_model
from service.vllm.encoder.arguments import (
    check_shares,
    environment_of,
    named,
    parse_encoder_arguments,
)
from service.vllm.encoder.engine import EncoderObserver, VllmEncoder
from service.vllm.gc_tuning import settle_heap
from service.vllm.interruptible import interruptible
from service.vllm.process import new_children, workers_here
from service.vllm.stat_loggers import StepClock, step_logger

USES = (
    "reads vllm.config.model:ModelConfig.embedding_size",
    "reads vllm.config.model:ModelConfig.matryoshka_dimensions",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_POOLING = {"embed": "embed", "score": "classify", "classify": "classify"}
"""vLLM's name of each task."""


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
        stated = {key.replace("-", "_") for key in encoder.engine}
        model = read_encoder(encoder.path, pooling_stated="pooler_config" in stated)
        return CheckedEncoder(digest, model, verified_head(encoder.path, model, encoder.digest))


def check_encoders(settings: Settings, *, here: bool = True) -> dict[str, CheckedEncoder]:
    """The required encoders by name, checked before any engine runs: memory, arguments, files.

    Without `here` a folder or a GPU that is not on this machine is no error. Raises
    ConfigurationError; for files, only of encoders that are required.
    """
    if here or not without_gpu():
        check_shares(settings)
    return {
        encoder.name: check_encoder(encoder)
        for encoder in settings.encoders
        if encoder.required and (here or encoder.path.is_dir())
    }


async def start_encoder(
    encoder: EncoderSettings,
    checked: CheckedEncoder,
    gate: Gate,
    observer: EncoderObserver,
    preparation: PreparationSettings,
    *,
    beside_model: bool,
) -> VllmEncoder:
    """Start the engine of an encoder; ConfigurationError, naming it, if it cannot start.

    On the CPU build one `beside_model` has the cores after the model's engine.
    """
    with named(encoder):
        arguments = parse_encoder_arguments(encoder)
        steps = StepClock()
        client = client_for(encoder.engine.get("client", "auto"))
        with interruptible():
            config = engine_config(arguments)
            with environment_of(encoder), new_children() as pids:
                llm = client.start(config, step_logger(steps))
        try:
            _check_task(checked.model.task, await llm.get_supported_tasks())
            info = _info(encoder, checked, llm)
            pids += await workers_here(llm)
            if beside_model and platform.installed() is platform.CPU:
                rank_behind_model(pids)
            gate.capacity = encoder.max_in_flight or info.max_num_seqs
            engine = VllmEncoder(llm, steps, info, gate, observer, preparation, pids)
        except BaseException:
            llm.shutdown()
            raise
    settle_heap()
    return engine


def _check_task(task: EncoderTask, offered: Sequence[str]) -> None:
    if _POOLING[task] not in offered:
        raise ConfigurationError(
            f"its pooling does not give what the task {task} needs; vLLM offers "
            f"{', '.join(offered) or 'nothing'} for this model"
        )


def _info(encoder: EncoderSettings, checked: CheckedEncoder, llm: Any) -> EncoderInfo:
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
    )
