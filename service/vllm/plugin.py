"""The service's plugin for vLLM, loaded through the entry point `vllm.general_plugins`.

vLLM calls the entry point in each of its processes, before it makes a worker, also where another
program of the same Python environment uses vLLM: there it does nothing.
"""

import atexit
import gc
import multiprocessing
import os
import signal
import threading
from importlib.metadata import entry_points
from multiprocessing.connection import wait

from service.errors import ConfigurationError
from service.settings import section as platform
from service.vllm.cpu.forkserver import use_seed
from service.vllm.environment import (
    COMPILER_OFF,
    GROUPED_ADAPTERS,
    STARTED_BY_US,
    apply_platform_environment,
)
from service.vllm.patches.idle import sleep_without_work
from service.vllm.process import give_way_to_service, in_worker

USES = ("replaces vllm.platforms.cpu:CpuPlatform.get_punica_wrapper",)

GROUP = "vllm.general_plugins"
NAME = "llm_service"
_WATCH = "lifeline"
_WRAPPER = "service.vllm.patches.adapter_operators.GroupedPunicaWrapper"


def install() -> None:
    """Set the platform's variables, and give the CPU platform our operators where asked for.

    Does nothing unless this service started the process (STARTED_BY_LLM_SERVICE).

    A process that vLLM has started ends with its parent. On the CPU platform it also does not
    preempt the service, and a worker sleeps when idle and uses faster kernels in eager mode.
    Without the variable, or on other platforms, vLLM's operators are kept. A second call has no
    effect.
    """
    if STARTED_BY_US not in os.environ:
        return
    on_cpu = platform.installed() is platform.CPU
    if on_cpu and multiprocessing.parent_process() is not None:
        give_way_to_service()
        sleep_without_work()
    _end_with_parent()
    # Collecting what torch and vLLM hold at the exit took a worker over five seconds, after which
    # vLLM kills it.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    apply_platform_environment()
    use_seed()
    # vLLM's layers take seconds to import.
    if on_cpu and in_worker() and os.environ.get(COMPILER_OFF) == "1":
        from service.vllm.patches import cpu_calls, cpu_kernels

        cpu_kernels.use_kernels()
        cpu_calls.call_directly()
    if on_cpu and os.environ.get(GROUPED_ADAPTERS) == "1":
        from vllm.platforms import current_platform

        type(current_platform).get_punica_wrapper = classmethod(lambda cls: _WRAPPER)


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


def _end_with_parent() -> None:
    """Have this process killed once its parent has ended, whatever ended the parent.

    Without this an engine outlives a service that was killed, and keeps the memory (of a GPU, too)
    that the next start needs. A process that multiprocessing did not start stays as it is.
    """
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _WATCH for thread in threading.enumerate()):
        return
    watch = threading.Thread(target=_end_after, args=(parent.sentinel,), name=_WATCH, daemon=True)
    watch.start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
