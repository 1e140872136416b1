"""The start of the remote client, and what it checks of the engines and of the configuration."""

import logging
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from vllm.renderers import renderer_from_config

from service.admission.admitted import StreamObserver
from service.admission.controller import AdmissionController
from service.errors import ConfigurationError
from service.models.file_list import checked_digest
from service.settings.tree import Settings
from service.vllm.argument_checks import HANDLERS, by_vllms_names
from service.vllm.arguments import (
    engine_config,
    parsed_arguments,
    stated_arguments,
    text_arguments,
    without_gpu,
)
from service.vllm.environment import apply_environment
from service.vllm.model_facts import model_info
from service.vllm.process import interruptible
from service.vllm.remote.engine import RemoteEngine
from service.vllm.remote.http_client import HttpEngines
from service.vllm.remote.trial import tried, version_of, wait_for
from service.vllm.remote.wire import Taken
from service.vllm.served import VllmModel, served_model
from service.vllm.structured_outputs import GrammarSandbox, open_sandbox
from service.vllm.texts import VllmTexts

_log = logging.getLogger(__name__)

READ_HERE = HANDLERS | {
    "generation_config",
    "hf_overrides",
    "max_lora_rank",
    "max_model_len",
    "max_num_seqs",
    "override_generation_config",
    "reasoning_config",
    "reasoning_parser",
    "structured_outputs_config",
    "tokenizer",
    "tokenizer_mode",
}
"""Arguments that have an effect without an engine: on texts, and on the requests at once."""

NOT_PROMISED = (
    "steps of the engines are not counted: an engine is stuck if no answer moves",
    "an answer that a lost engine was writing ends with an error; it is not begun again",
    "priorities, KV blocks, memory and adapters' evictions are the engines' own affair",
    "token masks of structured output are computed there, without this service's bounds",
    "answers of a batch may change each other: this service's repairs of vLLM are not there",
    "tenants' salts are sent as `cache_salt`; that they part the caches cannot be seen from here",
    "structured output after thoughts is refused, and thoughts' tokens are not forced to end",
)
"""What an engine in the service's own process promises, and one that others run does not."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """The parts of vLLM's engine client that read texts: no engine and no weights."""

    vllm_config: Any
    renderer: Any

    @property
    def model_config(self) -> Any:
        return self.vllm_config.model_config


def remote_arguments(settings: Settings) -> Namespace:
    """vLLM's arguments of the texts.

    Raises ConfigurationError for an argument that belongs to the engines' own command line, and as
    `stated_arguments`.
    """
    apply_environment(settings)
    if without_gpu():
        raise ConfigurationError(
            "engine.client: remote reads texts with vLLM's libraries; on a machine without a GPU "
            "this needs vLLM's CPU build"
        )
    if settings.remote.url is None:
        raise ConfigurationError("remote.url: needed with `engine.client: remote`")
    for name in by_vllms_names(settings.engine).keys() - READ_HERE - {"client"}:
        raise ConfigurationError(
            f"engine.{name}: without effect with `engine.client: remote`; set it where the engines "
            "are started"
        )
    stated = stated_arguments(settings.engine)
    chosen = {**stated, **text_arguments(settings, stated)}
    if (settings.base.path / "config.json").is_file():
        # This build's platform need not be able to run the weights, which are elsewhere.
        chosen["hf_overrides"] = {"quantization_config": None, **stated.get("hf_overrides", {})}
    return parsed_arguments(chosen)


def check_remote(settings: Settings) -> list[str]:
    """Lines for `--check`: how the engines are reached, and what is not promised there."""
    remote_arguments(settings)
    where = f"engine: reached over HTTP at {settings.remote.url}; they are not asked by a check"
    return [where, *(f"remote: {each}" for each in NOT_PROMISED)]


async def start_remote(
    settings: Settings, admission: AdmissionController, observer: StreamObserver
) -> VllmModel:
    """Reach the engines of the configured model; ConfigurationError if they cannot serve it."""
    arguments = remote_arguments(settings)
    with interruptible():
        digest = checked_digest(settings.base.path, settings.base.digest)
    sandbox = GrammarSandbox(admission, settings.preparation)
    sandbox.begin()
    http = HttpEngines(settings.remote)
    try:
        with interruptible():
            config = engine_config(arguments)
            front = FrontEnd(config, renderer_from_config(config))
        await open_sandbox(sandbox, front)
        texts = VllmTexts(front, settings)
        name = settings.remote.model or settings.base.name
        await wait_for(http, settings.remote, name, config.model_config.max_model_len)
        taken = await tried(http, name, texts.decode)
        version = await version_of(http)
    except BaseException:
        sandbox.stop()
        await http.close()
        raise
    notes = _notes(taken)
    for note in notes:
        _log.warning("remote: %s", note)
    model = model_info(
        front,
        arguments,
        settings,
        digest,
        max_num_seqs=config.scheduler_config.max_num_seqs,
        max_lora_rank=settings.max_lora_rank if settings.has_adapters else 0,
        client="remote",
        version=version,
        client_notes=notes,
        echoes=settings.remote.echoes,
    )
    engine = RemoteEngine(http, model, name, taken, texts.decode)
    return await served_model(
        engine, front, arguments, settings, texts, sandbox, admission, observer
    )


def _notes(taken: Taken) -> tuple[str, ...]:
    missing = {
        "no priorities; start the engines with `--scheduling-policy priority`": taken.priority,
        "no log-probabilities of labels, so no classification": taken.labels,
        "no structured output": taken.structures,
    }
    return tuple(note for note, has in missing.items() if not has)
