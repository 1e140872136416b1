"""vLLM's engine arguments from the settings, through vLLM's own parser."""

import ctypes
import json
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from service.errors import ConfigurationError
from service.settings import section as platform
from service.settings.tree import Settings
from service.vllm.argument_checks import by_vllms_names, check_config, check_names, check_opened
from service.vllm.environment import apply_environment
from service.vllm.plugin import require_installed
from service.vllm.tool_parsers import chosen_parser
from service.vllm.versions import tried_arguments
from service.vllm.worker import WORKER_EXTENSION

USES = (
    "calls vllm.config.model:ModelConfig.is_moe",
    "calls vllm.engine.arg_utils:AsyncEngineArgs.create_engine_config, from_cli_args",
    "calls vllm.platforms.interface:Platform.is_unspecified",
    "extends vllm.utils.argparse_utils:FlexibleArgumentParser.parse_args",
)

_MAX_SLOTS = 8
_LISTED = 64
"""Adapters in the host's memory by default, where a list may grow while the service runs."""

BACKEND = "xgrammar"
"""The only compiler of structures: vLLM's others stall its own process for seconds, and the engine
keeps the one it used first, even if a later request was accepted for another."""

_CPU_SCHEDULER = {"scheduler_cls": "service.vllm.cpu.paced_scheduler.PacedScheduler"}
"""The scheduler of steps on the CPU build, which makes one at a time."""

_DEFAULTS: dict[str, Any] = {
    "enable_prompt_tokens_details": True,
    "scheduling_policy": "priority",
    "worker_extension_cls": WORKER_EXTENSION,
}


def parse_engine_arguments(settings: Settings) -> Namespace:
    """vLLM's argument namespace for these settings.

    Raises ConfigurationError that names an unknown key with the nearest valid one, a key that the
    service itself sets, or a bad value with vLLM's own message.
    """
    prepare_machine(settings)
    arguments = stated_arguments(settings.engine)
    check_opened(arguments)
    chosen = {
        **_DEFAULTS,
        **(_CPU_SCHEDULER if platform.installed() is platform.CPU else {}),
        **_adapter_defaults(settings, arguments),
        **arguments,
        **type_for_processor(arguments),
        **text_arguments(settings, arguments),
        "additional_config": _limits(settings, arguments),
        "otlp_traces_endpoint": settings.tracing.endpoint,
    }
    return parsed_arguments(chosen)


def text_arguments(settings: Settings, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments about the model's texts, whichever engine runs it, over the stated ones.

    Raises ConfigurationError for a tokenizer or a compiler of structures that is not served.
    """
    structures = stated.get("structured_outputs_config", {})
    _check_structures(structures)
    return {
        **chosen_parser(settings.base.path, stated),
        "model": str(settings.base.path),
        "tokenizer_mode": _tokenizer_mode(settings.base.path, stated),
        "served_model_name": [settings.base.name],
        "default_chat_template_kwargs": settings.base.chat_template_kwargs or None,
        "structured_outputs_config": {**structures, "backend": BACKEND},
    }


def without_gpu() -> bool:
    """True if this build of vLLM needs a GPU to parse arguments and there is none."""
    from vllm.platforms import current_platform

    return platform.installed() is platform.CUDA and bool(current_platform.is_unspecified())


def prepare_machine(settings: Settings) -> None:
    """Prepare the environment of the engines; ConfigurationError if something needed is missing."""
    apply_environment(settings)
    if without_gpu():
        raise ConfigurationError(
            "engine: no GPU was found, and this build of vLLM needs one; `nvidia-smi` lists those "
            "that the driver sees"
        )
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        _require_library("libnuma.so.1", package="libnuma1")
        if settings.has_adapters and settings.cpu.grouped_adapters:
            require_installed()


def stated_arguments(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the settings by vLLM's own names; raises as `check_names`."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    arguments = by_vllms_names(engine)
    arguments.pop("client", None)
    known = {action.dest for action in _parser()._actions} - {"help"}
    check_names(
        arguments, known, {each.name for each in fields(AsyncEngineArgs)}, tried_arguments()
    )
    return arguments


def parsed_arguments(chosen: Mapping[str, Any]) -> Namespace:
    """vLLM's namespace of these arguments; ConfigurationError with its own message."""
    from vllm.entrypoints.cli.serve import validate_parsed_serve_args
    from vllm.exceptions import VLLMClientError

    words = [word for item in chosen.items() for word in _words(*item)]
    parsed: Namespace = _parser().parse_args(words)
    try:
        validate_parsed_serve_args(parsed)
    except (TypeError, ValueError, OSError, VLLMClientError) as error:
        raise ConfigurationError(f"engine: {error}") from error
    return parsed


@cache
def _parser() -> Any:
    from vllm.entrypoints.cli.serve import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise ConfigurationError(_in_settings(message))

    return make_arg_parser(Parser())


def _in_settings(message: str) -> str:
    """argparse's message with the setting's name in place of the option."""
    told = re.match(r"argument --([\w-]+)\S*: (.*)", message, re.DOTALL)
    if told is None:
        return f"engine: {message}"
    reason = re.sub(r"^invalid \w+ value", "invalid value", told[2])
    return f"engine.{told[1].replace('-', '_')}: {reason}"


def engine_config(arguments: Namespace) -> Any:
    """vLLM's configuration of the engine, which reads the model's own; no weights are loaded.

    Raises ConfigurationError with vLLM's reason if the arguments do not fit the model or machine.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    try:
        config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
            UsageContext.OPENAI_API_SERVER
        )
    except ValidationError as error:
        reasons = [found["msg"].removeprefix("Value error, ") for found in error.errors()]
        raise ConfigurationError(f"engine: {'; '.join(reasons)}") from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"engine: {error}") from error
    if config.lora_config and config.model_config.is_moe and current_platform.is_cpu():
        # The worker would fail in Triton after the weights are loaded.
        raise ConfigurationError(
            "adapters: vLLM's CPU build takes none on a model with experts; serve the model without"
            " adapters, or on a GPU"
        )
    check_config(config)
    return config


def with_budget(config: Any) -> Any:
    """The configuration with a scheduler that limits token masks' time; see mask_budget.py."""
    scheduler = config.scheduler_config
    if scheduler.scheduler_cls is None:
        kind = "AsyncBudgetScheduler" if scheduler.async_scheduling else "BudgetScheduler"
        # Set only now: vLLM does not overlap steps where the arguments name a scheduler.
        scheduler.scheduler_cls = f"service.vllm.patches.mask_budget.{kind}"
    return config


def _require_library(name: str, package: str) -> None:
    """Raise ConfigurationError where a library of vLLM's CPU kernels is missing.

    vLLM itself only warns, and fails later when it uses the library.
    """
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise ConfigurationError(
            f"engine: vLLM's CPU kernels need {name}, Debian's package {package}: {error}"
        ) from error


def _limits(settings: Settings, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`additional_config` with the settings that the scheduler needs."""
    from service.vllm.patches.mask_budget import SECTION

    additions = arguments.get("additional_config", {})
    if not isinstance(additions, Mapping):
        raise ConfigurationError(
            f"engine.additional_config: must be a mapping, got {additions!r:.80}"
        )
    limits = {
        "mask": settings.preparation.mask_ms / 1000,
        "masks": settings.preparation.structure_ms / 1000,
    }
    return {**additions, SECTION: limits}


def _adapter_defaults(settings: Settings, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the configured adapters, where the configuration sets others.

    With vLLM's default of one slot, a batch's adapters run one by one. It keeps no more adapters in
    the host's memory than there are slots, so every miss would read the disk. A list may grow, so
    its defaults do not depend on its length.
    """
    if not settings.has_adapters:
        return {}
    # One more than configured, so that a reload has room for a new version beside the old.
    count = len(settings.wanted_adapters) + 1 if settings.adapters_path is None else _LISTED
    slots = arguments.get("max_loras") or min(count, _MAX_SLOTS)
    kept = max(count, int(slots)) if str(slots).isdecimal() else None
    return {"enable_lora": True, "max_loras": slots, "max_cpu_loras": kept}


def _tokenizer_mode(folder: Path, arguments: Mapping[str, Any]) -> str:
    """The tokenizer's kind, where vLLM would choose Mistral's own: transformers' one.

    Raises ConfigurationError where only Mistral's own is there or asked for: it has no chat
    template to read and does not tell special tokens from text.
    """
    mode = str(arguments.get("tokenizer_mode") or "auto").lower()
    own = next(chain(folder.glob("tekken.json"), folder.glob("tokenizer.model.v*")), None)
    if mode == "auto" and own is not None and (folder / "tokenizer.json").is_file():
        return "hf"
    if mode == "mistral" or (mode == "auto" and own is not None):
        raise ConfigurationError(
            "engine.tokenizer_mode: Mistral's own tokenizer is not served; put the model's "
            f"tokenizer.json into {folder} and set the mode to 'hf' or leave it out"
        )
    return mode


def _check_structures(config: Any) -> None:
    if not isinstance(config, Mapping) or config.get("backend", BACKEND) != BACKEND:
        raise ConfigurationError(
            f"engine.structured_outputs_config: must be a mapping, its backend {BACKEND!r}, got "
            f"{config!r:.80}; it is the one compiler whose time is bounded"
        )


def _words(key: str, value: Any) -> list[str]:
    flag = f"--{key.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return _words(key, value.lower() == "true")
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, list | tuple):
        return [flag, *(str(item) for item in value)]
    return [f"{flag}={value}"]


def type_for_processor(arguments: Mapping[str, Any]) -> dict[str, str]:
    """`{"dtype": "float32"}` where `dtype` is left to vLLM and the processor has no bfloat16.

    Empty otherwise, and on GPUs. Without AVX-512 oneDNN has no product in bfloat16 or float16, and
    vLLM's fallback took 5 to 7 times as long as float32 (SmolLM2-135M, AVX2).
    """
    stated = str(arguments.get("dtype") or "auto").lower()
    if stated != "auto" or platform.installed() is not platform.CPU:
        return {}
    return {} if platform.multiplies_bfloat16() else {"dtype": "float32"}
