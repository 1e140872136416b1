"""Plugin: the service's additions to vLLM, through its entry point `vllm.general_plugins`.

vLLM calls the entry point in each of its processes, before it makes a worker.
"""

import os
from importlib.metadata import entry_points

from service.errors import ConfigurationError

GROUP = "vllm.general_plugins"
NAME = "llm_service"
GROUPED_ADAPTERS = "GROUPED_CPU_ADAPTERS"
"""Variable that carries `cpu.grouped_adapters` to the worker: `1` or `0`."""
WRAPPER = "service.vllm_engine.cpu.adapter_operators.GroupedPunicaWrapper"


def install() -> None:
    """Give the CPU platform our adapter operators, where the settings ask for them.

    Does nothing on other platforms or without the variable; calling it again changes nothing.
    """
    from vllm.platforms import current_platform

    if os.environ.get(GROUPED_ADAPTERS) == "1" and current_platform.is_cpu():
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: WRAPPER)


def require_installed() -> None:
    """Raise ConfigurationError where vLLM's processes would not find the plugin.

    Without the plugin vLLM's own operators would run unnoticed: slower, and wrong for base requests
    batched with adapters.
    """
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and NAME not in allowed.split(","):
        raise ConfigurationError(
            f"cpu.grouped_adapters: VLLM_PLUGINS={allowed!r} keeps vLLM from loading the plugin "
            f"{NAME!r}; add it there, or set cpu.grouped_adapters to false"
        )
    if NAME not in entry_points(group=GROUP).names:
        raise ConfigurationError(
            f"cpu.grouped_adapters: no installed package offers the vLLM plugin {NAME!r}; install "
            "this one (`pip install --no-deps -e .`), or set cpu.grouped_adapters to false"
        )
