"""Plugin: the service's additions to vLLM, through its entry point `vllm.general_plugins`.

vLLM calls the entry point in each of its processes, before it makes a worker.
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
from service.vllm.environment import GROUPED_ADAPTERS, apply_platform_environment
from service.vllm.patches.processes import sleep_without_work, use_grouped_adapters, use_seed
from service.vllm.process import give_way_to_service

GROUP = "vllm.general_plugins"
NAME = "llm_service"


def install() -> None:
    """Set the platform's variables, and give the CPU platform our operators where asked for.

    A process that vLLM has started ends with the one that started it. On the CPU platform it gives
    way to the service, and a worker sleeps without work. Without the variable, or on other
    platforms, vLLM's operators stay. Calling it again changes nothing.
    """
    on_cpu = platform.installed() is platform.CPU
    if on_cpu and multiprocessing.parent_process() is not None:
        give_way_to_service()
        sleep_without_work()
    end_with_parent()
    _end_without_collection()
    apply_platform_environment()
    use_seed()

    if os.environ.get(GROUPED_ADAPTERS) == "1" and on_cpu:
        use_grouped_adapters()


def _end_without_collection() -> None:
    """Skip the garbage collection at this process's exit, and keep its exit code.

    Collecting what torch and vLLM hold took a worker over five seconds, after which vLLM kills it.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


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


_NAME = "lifeline"


def end_with_parent() -> None:
    """Have this process killed once its parent has ended, whatever ended the parent.

    Without this an engine outlives a service that was killed, and keeps the memory (of a GPU, too)
    that the next start needs. A process that multiprocessing did not start stays as it is. Calling
    it again changes nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _NAME for thread in threading.enumerate()):
        return
    watch = threading.Thread(target=_end_after, args=(parent.sentinel,), name=_NAME, daemon=True)
    watch.start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
