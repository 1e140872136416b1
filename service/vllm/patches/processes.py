"""vLLM's processes import everything anew, and a worker without work polls for a second.

On CPUs they are forked from the seed, asleep when idle, and use the service's adapter operators.
"""

import multiprocessing
from functools import partialmethod
from multiprocessing.context import BaseContext

from service.vllm.cpu.forkserver import has_seed, seeded_context

USES = (
    "replaces vllm.distributed.device_communicators.shm_broadcast:SpinCondition.__init__",
    "mirrors vllm.platforms.cpu:CpuPlatform.check_and_update_config",
    "replaces vllm.platforms.cpu:CpuPlatform.get_punica_wrapper",
    "mirrors vllm.utils.ompmultiprocessing:OMPProcessManager",
    "replaces vllm.v1.engine.utils:get_mp_context",
    "replaces vllm.v1.executor.multiproc_executor:get_mp_context",
)

_WRAPPER = "service.vllm.patches.adapter_operators.GroupedPunicaWrapper"

_WORKER = "VllmWorker"
"""Beginning of the names that vLLM gives its workers' processes."""

_POLLS_FOR_S = 0.1
"""Time for which a worker without a step polls; the next step comes within milliseconds."""


def use_seed() -> None:
    """Have vLLM fork the processes that this one starts from the seed, if there is one.

    Called in the service before it starts an engine, and by the plugin in the engine's process.
    """
    if not has_seed():
        return
    from vllm.utils.system_utils import get_mp_context
    from vllm.v1.engine import utils
    from vllm.v1.executor import multiproc_executor

    def context() -> BaseContext:
        found: BaseContext = seeded_context() or get_mp_context()
        return found

    utils.get_mp_context = multiproc_executor.get_mp_context = context


def use_grouped_adapters() -> None:
    """Give vLLM's CPU platform our operators for adapters."""
    from vllm.platforms import current_platform

    type(current_platform).get_punica_wrapper = classmethod(lambda cls: _WRAPPER)


def sleep_without_work() -> None:
    """Have vLLM's worker sleep after 0.1 s without a step, where it polls its queue for a second.

    The watchdog gives an idle engine a step every few seconds, after which the worker took a third
    of a core. To wake it takes some milliseconds. Other processes keep vLLM's second: the engine's
    core waits for long steps, and its queue can miss the notice that ends a sleep.
    """
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    if multiprocessing.current_process().name.startswith(_WORKER):
        waiting = partialmethod(SpinCondition.__init__, busy_loop_s=_POLLS_FOR_S)
        SpinCondition.__init__ = waiting
