"""Arguments of vLLM's that its public client alone serves, and the checks of their values."""

import json
from collections.abc import Mapping
from typing import Any

from service.errors import ConfigurationError
from service.settings import section as platform
from service.vllm.argument_names import BY_STOCK, CONNECTORS, REFUSED_CONNECTORS


def stock_only(engine: Mapping[str, Any]) -> list[str]:
    """The arguments of these settings that the public client alone serves, by vLLM's names."""
    stated = {key.replace("-", "_"): value for key, value in engine.items()}
    return [name for name in BY_STOCK if _asks(name, stated.get(name))]


def _asks(name: str, value: Any) -> bool:
    """False for a value that asks for nothing."""
    if name == "data_parallel_size":
        return str(value) not in ("None", "1")
    return value is not None and value is not False


def check_opened(stated: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what is not served of these arguments of the model's engine."""
    draft = _mapping("speculative_config", stated)
    if draft.get("rejection_sample_method", "standard") == "synthetic":
        raise ConfigurationError(
            "engine.speculative_config: rejection_sample_method 'synthetic' is not accepted here; "
            "its answers are not the model's"
        )
    _check_connector(_mapping("kv_transfer_config", stated))
    if stated.get("kv_offloading_backend", "native") != "native":
        raise ConfigurationError(
            f"engine.kv_offloading_backend: must be native, got "
            f"{stated['kv_offloading_backend']!r:.80}; {REFUSED_CONNECTORS['LMCacheMPConnector']}"
        )
    offloads = stated.get("kv_offloading_size") is not None or stated.get("kv_transfer_config")
    if offloads and platform.installed() is platform.CPU:
        name = "kv_transfer_config" if stated.get("kv_transfer_config") else "kv_offloading_size"
        raise ConfigurationError(
            f"engine.{name}: not accepted on the CPU build; vLLM copies keys and values to and "
            "from GPUs only"
        )


def check_config(config: Any) -> None:
    """Raise ConfigurationError for vLLM's configuration if it runs other code, or cannot run."""
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


def _check_connector(config: Mapping[str, Any]) -> None:
    if not config:
        return
    name = config.get("kv_connector")
    if config.get("kv_connector_module_path"):
        reason = "code that is named in the configuration is never run"
    elif name in CONNECTORS:
        return
    else:
        reason = REFUSED_CONNECTORS.get(str(name), "nobody has tried it here")
    raise ConfigurationError(
        f"engine.kv_transfer_config: {name!r:.80} is not accepted here, only "
        f"{' and '.join(CONNECTORS)}; {reason}"
    )


def _mapping(name: str, stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value of an argument that holds keys, which may be JSON; empty without one."""
    value = stated.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(f"engine.{name}: must be a mapping, got {value!r:.80}")
    return {str(key).replace("-", "_"): each for key, each in (value or {}).items()}
