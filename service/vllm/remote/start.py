"""The start of the remote client, and what it checks of the engines and of the configuration."""

import asyncio
import logging
import time
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from vllm.renderers import renderer_from_config

from service.admission.admitted import StreamObserver
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.engine.contract import Job, LabelQuery, ModelInfo, Sampling, Structure
from service.errors import ConfigurationError, InvalidRequest, ServiceError
from service.models.file_list import checked_digest
from service.settings.remote import RemoteSettings
from service.settings.tree import Settings
from service.vllm import gc_tuning
from service.vllm.argument_checks import HANDLERS, by_vllms_names
from service.vllm.arguments import (
    engine_config,
    parsed_arguments,
    stated_arguments,
    text_arguments,
    without_gpu,
)
from service.vllm.chats import VllmChats
from service.vllm.environment import apply_environment
from service.vllm.model_facts import answer_options, most_new_tokens, sampling_defaults
from service.vllm.process import interruptible
from service.vllm.remote.adapters import model_cards
from service.vllm.remote.engine import COMPLETIONS, RemoteEngine
from service.vllm.remote.http_client import HttpEngines
from service.vllm.remote.wire import Decode, Taken, job_body, labels_of, read_body
from service.vllm.served import VllmModel
from service.vllm.structured_outputs import GrammarSandbox, VllmStructures, open_sandbox
from service.vllm.texts import VllmTexts
from service.vllm.tool_parsers import check_parser

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

_PROBE_TOKENS = 8
_EVERY_S = 1.0
_PROMPT = tuple(range(6, 14))
_CHOICE = ("yes", "no")


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
        await _wait_for(http, settings.remote, name, config.model_config.max_model_len)
        taken = await _tried(http, name, texts.decode)
        version = await _version(http)
    except BaseException:
        sandbox.stop()
        await http.close()
        raise
    model = _model_info(front, arguments, settings, digest, version, taken)
    for note in model.client_notes:
        _log.warning("remote: %s", note)
    admission.capacity = settings.admission.max_in_flight or model.max_num_seqs
    configured = "tool_call_parser" in by_vllms_names(settings.engine)
    check_parser(arguments, front.renderer.get_tokenizer(), configured=configured)
    engine = RemoteEngine(http, model, name, taken, texts.decode)
    preparation = Preparation(admission, settings.preparation)
    chats = VllmChats(front, arguments, preparation)
    await chats.begin()
    structures = VllmStructures(sandbox, strict=settings.limits.structures.unenforced == "refuse")
    served = VllmModel(engine, texts, chats, structures, admission, observer, preparation)
    gc_tuning.freeze()
    return served


def _model_info(
    front: FrontEnd,
    arguments: Namespace,
    settings: Settings,
    digest: str,
    version: str,
    taken: Taken,
) -> ModelInfo:
    return ModelInfo(
        settings.base.name,
        digest,
        front.model_config.max_model_len,
        front.vllm_config.scheduler_config.max_num_seqs,
        max_lora_rank=settings.max_lora_rank if settings.adapters else 0,
        max_token_chars=front.renderer.get_tokenizer().max_chars_per_token,
        client="remote",
        vllm=version,
        client_notes=_notes(taken),
        sampling_defaults=sampling_defaults(front.model_config, settings),
        most_new_tokens=most_new_tokens(front.model_config),
        answers=answer_options(front, arguments),
        echoes=settings.remote.echoes,
    )


def _notes(taken: Taken) -> tuple[str, ...]:
    missing = {
        "no priorities; start the engines with `--scheduling-policy priority`": taken.priority,
        "no log-probabilities of labels, so no classification": taken.labels,
        "no structured output": taken.structures,
    }
    return tuple(note for note, has in missing.items() if not has)


async def _wait_for(http: HttpEngines, settings: RemoteSettings, name: str, longest: int) -> None:
    """Wait until the engines list the model.

    Raises ConfigurationError if they do not in time, list others, or have a smaller context.
    """
    deadline = time.monotonic() + settings.wait_s
    while True:
        try:
            cards = await model_cards(http)
            break
        except ServiceError as error:
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"remote.url: no list of models from {http.url} within {settings.wait_s:g} s: "
                    f"{error.message}"
                ) from error
        await asyncio.sleep(_EVERY_S)
    found = next((each for each in cards if each["id"] == name), None)
    if found is None:
        names = ", ".join(str(each["id"])[:80] for each in cards[:8]) or "nothing"
        raise ConfigurationError(f"remote.model: {name!r} is not served there, only {names}")
    context = found.get("max_model_len")
    if isinstance(context, int) and context < longest:
        raise ConfigurationError(
            f"engine.max_model_len: must be at most the engines' own {context}, got {longest}"
        )


async def _tried(http: HttpEngines, name: str, decode: Decode) -> Taken:
    """Try each kind of work once.

    Raises ConfigurationError if the engines cannot generate for this service, or have another
    tokenizer than the model's folder.
    """
    try:
        priority = await _answers(http, name, decode, priority=True)
        if not priority and not await _answers(http, name, decode, priority=False):
            raise ConfigurationError("remote.url: the engines refuse a plain generation")
        labels = await _reads_labels(http, name)
        structures = await _keeps_to_choice(http, name)
    except ServiceError as error:
        raise ConfigurationError(
            f"remote.url: a first request to the engines failed: {error.message}"
        ) from error
    return Taken(priority, labels, structures)


async def _answers(http: HttpEngines, name: str, decode: Decode, *, priority: bool) -> bool:
    """True if a generation is answered with the tokens that this service needs."""
    job = _job(Sampling(_PROBE_TOKENS, temperature=0.0, ignore_eos=True), 1)
    try:
        answer = await http.post(COMPLETIONS, job_body(job, name, priority=priority, stream=False))
    except InvalidRequest:
        return False
    try:
        (choice,) = answer["choices"]
        text, token_ids = choice["text"], [int(each) for each in choice["token_ids"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "remote.url: the answers there have no `token_ids`; a server of vLLM's is needed, and "
            "a router that passes `return_token_ids` on"
        ) from error
    special = decode(token_ids)
    if text.strip() and text.strip() not in special and "\N{REPLACEMENT CHARACTER}" not in special:
        raise ConfigurationError(
            "remote.url: the engines have another tokenizer than the folder of `model.path`"
        )
    return True


async def _reads_labels(http: HttpEngines, name: str) -> bool:
    query = LabelQuery(_PROMPT, (0, 1), cache_salt="probe")
    try:
        labels_of(await http.post(COMPLETIONS, read_body(query, name, priority=False)), query)
    except ServiceError as error:
        _log.debug("remote: no label read: %s", error)
        return False
    return True


async def _keeps_to_choice(http: HttpEngines, name: str) -> bool:
    """True if a structure is enforced from the first token on."""
    job = _job(Sampling(16, structure=Structure(choice=_CHOICE), seed=1), 0)
    try:
        answer = await http.post(COMPLETIONS, job_body(job, name, priority=False, stream=False))
        return bool(answer["choices"][0]["text"] in _CHOICE)
    except (InvalidRequest, KeyError, IndexError, TypeError):
        return False


def _job(sampling: Sampling, priority: int) -> Job:
    return Job(_PROMPT, sampling, priority=priority, cache_salt="probe")


async def _version(http: HttpEngines) -> str:
    """vLLM's version there, by the route that its own server has; empty if it does not tell."""
    try:
        return str((await http.get("/version"))["version"])[:32]
    except (ServiceError, KeyError, TypeError):
        return ""
