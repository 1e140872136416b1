"""vLLM's arguments that the configuration may set: their names, and values that are not served."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from service.common.error_messages import nearest
from service.errors import ConfigurationError
from service.settings import section as platform

_log = logging.getLogger(__name__)

_OTHER_NODES = "ranks on other nodes need vLLM's own server there: run a replica for each rank"
REFUSED = {
    "model": "set `model.path`",
    "model_tag": "set `model.path`",
    "served_model_name": "set `model.name`",
    "lora_modules": "list them under `adapters`",
    "otlp_traces_endpoint": "set `tracing.endpoint`",
    "log_level": "set `log.level`",
    "host": "set `http.host`",
    "port": "set `http.port`",
    "uds": "set `http.host`",
    "api_key": "keys belong to the service",
    "trust_remote_code": "code from a model folder is never run",
    "trust_request_chat_template": "code from requests is never run",
    "enable_log_requests": "prompts are never logged",
    "enable_log_outputs": "completions are never logged",
    "max_num_queued_reqs": "set `admission.max_queued`",
    "max_num_queued_tokens": "set `admission.max_queued`",
    "api_server_count": "one process serves one replica",
    "headless": "one process serves one replica",
    "config": "write the arguments under `engine`",
    "grpc": "only HTTP is served",
    "grpc_port": "only HTTP is served",
    "middleware": "the service has its own",
    "worker_extension_cls": "the service has its own",
    "root_path": "only `/` is served",
    "allowed_origins": "set `http.cors_origins`",
    "default_chat_template_kwargs": "set `model.chat_template_kwargs`",
    "disable_log_stats": "the watchdog counts the engine's steps by them",
    "trust_request_mm_kwargs": "requests are text",
    "tool_server": "tools are called by the client",
    "data_parallel_size_local": _OTHER_NODES,
    "data_parallel_start_rank": _OTHER_NODES,
    "data_parallel_hybrid_lb": _OTHER_NODES,
    "data_parallel_backend": "one process serves one replica",
    "data_parallel_multi_port_external_lb": "one process serves one replica",
    "ec_transfer_config": "requests are text",
    "logprobs_mode": "classification and confidence read the model's own log-probabilities",
}
"""Arguments that are refused because they bypass the service, each with what to set instead or
why."""

_DRAFTS = "speculative decoding"
_WITHIN = "copies of the model behind one queue"
_EXTERNAL = "replicas as ranks of a model with experts (CUDA builds)"
_OFFLOAD = "KV cache in the host's memory (CUDA builds)"
BY_STOCK = {
    "speculative_config": _DRAFTS,
    "spec_method": _DRAFTS,
    "spec_model": _DRAFTS,
    "spec_tokens": _DRAFTS,
    "data_parallel_size": _WITHIN,
    "data_parallel_rank": _EXTERNAL,
    "data_parallel_external_lb": _EXTERNAL,
    "data_parallel_address": _EXTERNAL,
    "data_parallel_rpc_port": _EXTERNAL,
    "kv_transfer_config": _OFFLOAD,
    "kv_offloading_size": _OFFLOAD,
    "kv_offloading_backend": _OFFLOAD,
}
"""Arguments that need vLLM's public client, each with what it does."""

CONNECTORS = ("OffloadingConnector", "SimpleCPUOffloadConnector")
"""Connectors of `kv_transfer_config` that are served: they keep blocks by vLLM's own hashes, which
hold the tenant's salt and the adapter. Others find keys and values by tokens alone, those of other
tenants too, or take them from another engine or server."""

HANDLERS = frozenset(
    """chat_template chat_template_content_format enable_auto_tool_choice enable_force_include_usage
    enable_prompt_tokens_details exclude_tools_when_tool_choice_none fingerprint_mode
    fingerprint_value response_role return_tokens_as_token_ids tool_call_parser
    tool_strict_level""".split()
)
"""Arguments of vLLM's server about the rendering of chats and the content of answers."""

UNUSED = frozenset(("enable_per_request_metrics", "log_error_stack"))
"""Arguments that were accepted for vLLM's handlers; a later version refuses them."""


def check_names(
    names: Iterable[str], known: Collection[str], engine: Collection[str], tried: Collection[str]
) -> None:
    """Raise ConfigurationError for the first name that is not served.

    `known` are the arguments of vLLM's server, `engine` those of its engine, and `tried` the engine
    arguments of all tested vLLM versions. Others are refused, since a new argument may bypass the
    service.
    """
    for name in names:
        if name in REFUSED:
            raise ConfigurationError(f"engine.{name}: not accepted here; {REFUSED[name]}")
        if name not in known:
            raise ConfigurationError(f"engine.{name}: unknown vLLM argument{nearest(name, known)}")
        if name in UNUSED:
            _log.warning("engine.%s: without effect; a later version refuses it", name)
        elif name not in engine and name not in HANDLERS:
            raise ConfigurationError(
                f"engine.{name}: not accepted here; only vLLM's own server reads it"
            )
        if name in engine and name not in tried:
            raise ConfigurationError(
                f"engine.{name}: not accepted here; this version of vLLM has it, and none that the "
                "service was tested with"
            )


def by_vllms_names(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The configured arguments under vLLM's names; the configuration may use hyphens instead."""
    return {str(key).replace("-", "_"): value for key, value in engine.items()}


def is_remote(engine: Mapping[str, Any]) -> bool:
    """True if others run the engines of the model."""
    return engine.get("client") == "remote"


def stock_only(engine: Mapping[str, Any]) -> list[str]:
    """The configured arguments that need the public client, by vLLM's names."""
    stated = by_vllms_names(engine)
    return [name for name in BY_STOCK if _asks(name, stated.get(name))]


def _asks(name: str, value: Any) -> bool:
    """False for a value that leaves the argument's feature off."""
    if name == "data_parallel_size":
        return str(value) not in ("None", "1")
    return value is not None and value is not False


def check_opened(stated: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for the first argument of the model's engine that is not served."""
    draft = _mapping("speculative_config", stated)
    if draft.get("rejection_sample_method", "standard") == "synthetic":
        raise ConfigurationError(
            "engine.speculative_config: rejection_sample_method 'synthetic' is not accepted here; "
            "its answers are not the model's"
        )
    _check_connector(_mapping("kv_transfer_config", stated))
    events = _mapping("kv_events_config", stated)
    if events.get("enable_kv_cache_events"):
        _log.warning(
            "engine.kv_events_config: the tokens of all tenants' prompts and answers are sent to "
            "%s, and with a `*` in it to whoever connects",
            events.get("endpoint", "tcp://*:5557"),
        )
    if (backend := stated.get("kv_offloading_backend", "native")) != "native":
        raise ConfigurationError(
            f"engine.kv_offloading_backend: must be native, got {backend!r:.80}; another may serve "
            "a tenant the keys and values of others"
        )
    offloads = stated.get("kv_offloading_size") is not None or stated.get("kv_transfer_config")
    if offloads and platform.installed() is platform.CPU:
        name = "kv_transfer_config" if stated.get("kv_transfer_config") else "kv_offloading_size"
        raise ConfigurationError(
            f"engine.{name}: not accepted on the CPU build; vLLM copies keys and values to and "
            "from GPUs only"
        )
    ray = stated.get("distributed_executor_backend") == "ray"
    if ray and platform.installed() is platform.CPU:
        raise ConfigurationError(
            "engine.distributed_executor_backend: ray is not accepted on the CPU build, where vLLM "
            'ends with "current platform cpu does not support ray"; say mp'
        )


def check_config(config: Any) -> None:
    """Raise ConfigurationError if vLLM's configuration cannot run, or would run untrusted code."""
    if config.speculative_config is not None and config.speculative_config.method == "custom_class":
        raise ConfigurationError(
            "engine.speculative_config: custom_class is not accepted here; code that is named in "
            "the configuration is never run"
        )
    ranks = config.parallel_config.data_parallel_size
    if ranks > 1 and config.model_config.is_moe and platform.installed() is platform.CPU:
        raise ConfigurationError(
            "engine.data_parallel_size: vLLM's CPU build passes no tokens between the ranks of a "
            "model with experts; serve it by one rank, or on GPUs"
        )

    if (
        platform.installed() is platform.CPU
        and _rounds_activations(config.model_config.hf_config)
        and not platform.multiplies_8_bits()
    ):
        raise ConfigurationError(
            "model.path: its layers multiply in 8 bits, and on this processor, without VNNI, such "
            "sums overflow: answers would be wrong; serve the model that it was made of"
        )


def _rounds_activations(hf_config: Any) -> bool:
    """True for weights and activations of 8 bits in the format of compressed-tensors."""
    found = getattr(hf_config, "quantization_config", None)
    groups = found.get("config_groups") if isinstance(found, Mapping) else None
    schemes = groups.values() if isinstance(groups, Mapping) else ()
    inputs = (each.get("input_activations") for each in schemes if isinstance(each, Mapping))
    return any(isinstance(each, Mapping) and each.get("type") == "int" for each in inputs)


def _check_connector(config: Mapping[str, Any]) -> None:
    name = config.get("kv_connector")
    if config.get("kv_connector_module_path"):
        reason = "code that is named in the configuration is never run"
    elif config and name not in CONNECTORS:
        reason = "another may serve a tenant the keys and values of others"
    else:
        return
    raise ConfigurationError(
        f"engine.kv_transfer_config: {name!r:.80} is not accepted here, only "
        f"{' and '.join(CONNECTORS)}; {reason}"
    )


def _mapping(name: str, stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value of an argument that is a mapping, or JSON of one; empty if it is not set."""
    value = stated.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(f"engine.{name}: must be a mapping, got {value!r:.80}")
    return by_vllms_names(value or {})
