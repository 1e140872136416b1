"""vLLM's engine arguments from the settings, through vLLM's own parser."""

import ctypes
import json
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, NoReturn

from service.errors import ConfigurationError
from service.quoting import nearest
from service.settings.tree import Settings
from service.vllm_engine.plugin import GROUPED_ADAPTERS, require_installed
from service.vllm_engine.worker import WORKER_EXTENSION

_OURS = {
    "model": "set `model.path`",
    "model_tag": "set `model.path`",
    "served_model_name": "set `model.name`",
    "lora_modules": "list them under `adapters`",
    "otlp_traces_endpoint": "set `tracing.endpoint`",
    "log_level": "set `log.level`",
    "host": "set `http.host`",
    "port": "set `http.port`",
    "uds": "set `http.host` and `http.port`",
    "api_key": "keys belong to the gate",
    "trust_remote_code": "code from a model folder is never run",
    "trust_request_chat_template": "templates from requests are never run",
    "enable_log_requests": "prompts are never logged",
    "enable_log_outputs": "completions are never logged",
    "max_num_queued_reqs": "set `gate.max_queued`",
    "max_num_queued_tokens": "set `gate.max_queued`",
    "api_server_count": "one process serves one replica",
    "headless": "one process serves one replica",
    "config": "write the arguments under `engine`",
    "grpc": "only HTTP is served",
    "grpc_port": "only HTTP is served",
    "middleware": "the service has its own",
    "worker_extension_cls": "the service has its own",
    "root_path": "only `/` is served",
    "allowed_origins": "set `http.cors_origins`",
}
"""Arguments that would bypass the service, each with the key to set instead."""

_MAX_SLOTS = 8

BACKEND = "xgrammar"
"""The only compiler of structures: vLLM's others stall its own process for seconds, and the engine
keeps the one it used first, even if a later request was accepted for another."""

_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Settings of glibc's malloc, which the engine's processes read at their start; without these it
returns each step's tensors to the system, for about 45 page faults a token (CPU build)."""

_DEFAULTS: dict[str, Any] = {
    "enable_prompt_tokens_details": True,
    "worker_extension_cls": WORKER_EXTENSION,
}


def parse_engine_arguments(settings: Settings) -> Namespace:
    """vLLM's argument namespace for these settings.

    Raises ConfigurationError that names an unknown key with the nearest valid one, a key that the
    service itself sets, or a bad value with vLLM's own message.
    """
    apply_environment(settings)
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.platforms import current_platform
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    if current_platform.is_cpu():
        _require_library("libnuma.so.1", package="libnuma1")
        if settings.adapters and settings.cpu.grouped_adapters:
            require_installed()

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise ConfigurationError(f"engine: {message}")

    parser = make_arg_parser(Parser())
    arguments = {key.replace("-", "_"): value for key, value in settings.engine.items()}
    _check_structures(arguments.get("structured_outputs_config", {}))
    _check_keys(arguments, {action.dest for action in parser._actions} - {"help"})
    adapters = _adapter_defaults(len(settings.adapters))
    chosen = {**_DEFAULTS, **adapters, **arguments, "model": str(settings.model.path)}
    chosen["served_model_name"] = [settings.model.name]
    chosen["otlp_traces_endpoint"] = settings.tracing.endpoint
    chosen["structured_outputs_config"] = {
        **arguments.get("structured_outputs_config", {}),
        "backend": BACKEND,
    }
    parsed: Namespace = parser.parse_args(
        [word for item in chosen.items() for word in _words(*item)]
    )
    return parsed


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


def _adapter_defaults(count: int) -> dict[str, Any]:
    """Set the slots for adapters: with vLLM's default of one, a batch's adapters run one by one."""
    if not count:
        return {}
    # One more than configured, so that a reload has room for a new version beside the old.
    return {"enable_lora": True, "max_loras": min(count + 1, _MAX_SLOTS)}


def apply_environment(settings: Settings) -> None:
    """Set the variables that vLLM, torch and our plugin read; vLLM's variables already set win."""
    cores = settings.cpu.cores
    if cores == "all":
        cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    variables = {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu.kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OTEL_SERVICE_NAME": settings.tracing.service_name,
        **_KEEP_MEMORY,
    }
    if str(settings.engine.get("enforce_eager")).lower() == "true":
        # Switch the compiler off: even in eager mode vLLM compiles its log-probability ranks, which
        # delays the first request by 12 s and needs a C++ compiler where the service runs.
        variables["TORCHDYNAMO_DISABLE"] = "1"
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    os.environ[GROUPED_ADAPTERS] = "1" if settings.cpu.grouped_adapters else "0"


def _check_keys(arguments: Mapping[str, Any], known: set[str]) -> None:
    for key in arguments:
        if key in _OURS:
            raise ConfigurationError(f"engine.{key}: not accepted here; {_OURS[key]}")
        if key not in known:
            raise ConfigurationError(f"engine.{key}: unknown vLLM argument{nearest(key, known)}")


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
