"""The fork server of the engine's processes (CPU build), which has imported vLLM.

Importing vLLM takes some eight seconds of CPU time, and without a fork server each of the engine's
processes imports it, one after the other. The fork server, called the seed, imports vLLM once,
while the service does; the processes forked from the seed share its memory. It is multiprocessing's
fork server in a context of its own. Forking is safe, because the seed runs a single Python thread,
and has used neither OpenMP nor a socket of the service.
"""

import importlib.util
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from service.settings import section as platform
from service.settings.tree import Settings
from service.vllm.argument_checks import is_remote
from service.vllm.environment import THREAD_BINDING, apply_environment, variables_set

T = TypeVar("T")

USES = (
    "mirrors vllm.platforms.cpu:CpuPlatform.check_and_update_config",
    "mirrors vllm.utils.ompmultiprocessing:OMPProcessManager",
    "replaces vllm.v1.engine.utils:get_mp_context",
    "replaces vllm.v1.executor.multiproc_executor:get_mp_context",
)

SEED_MODULES = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.llama",
    "service.vllm.worker",
    "service.vllm.grammar_worker",
)
"""Modules that the processes forked from the seed need."""
_READ_AT_START = ("GOMP_", "LD_PRELOAD", "MALLOC_", "OMP_", "TORCHDYNAMO_")
"""Prefixes of the variables that libraries of a process read once, when they are loaded."""
_BOUND_TO = "GOMP_CPU_AFFINITY"
_SET_BY_VLLM = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "1",
}
"""Variables that vLLM's CPU platform sets when it knows its configuration, after the seed began."""

_seeds: dict[str, str] = {}
"""The environment variables of the seed at its start; empty if there is no seed."""


def begin_seed(settings: Settings) -> None:
    """Start the seed, which imports vLLM in the background;

    does nothing on other platforms, and where others run all engines. Call it before this process
    imports vLLM itself, so that both imports run at the same time. A second call has no effect.
    """
    apply_environment(settings)
    if is_remote(settings.engine) and not settings.encoders:
        return
    if _seeds or platform.installed() is not platform.CPU or not importlib.util.find_spec("vllm"):
        return
    # A process of multiprocessing's own, which must not take the seed's variables.
    resource_tracker.ensure_running()
    with variables_set(seed_variables()):
        forkserver.set_forkserver_preload(["service.vllm.cpu.preloaded"])
        forkserver.ensure_running()
        remember_variables()


def use_seed() -> None:
    """Have vLLM fork its processes from the seed, if there is one.

    A process that needs other libraries or thread settings is started normally. Called in the
    service before it starts an engine, and by the plugin in the engine's process.
    """
    if not _seeds:
        return
    from vllm.utils.system_utils import get_mp_context
    from vllm.v1.engine import utils
    from vllm.v1.executor import multiproc_executor

    def context() -> BaseContext:
        if variables_read_at_start().items() <= _seeds.items():
            return _Context()
        vllms: BaseContext = get_mp_context()
        return vllms

    utils.get_mp_context = multiproc_executor.get_mp_context = context


def start_process(target: Callable[[T], None], argument: T) -> BaseProcess:
    """Start a process that calls `target`; it is forked from the seed, if there is one."""
    context = _Context() if _seeds else multiprocessing.get_context("spawn")
    process: BaseProcess = context.Process(target=target, args=(argument,), daemon=True)
    process.start()
    return process


def seed_variables() -> dict[str, str]:
    """The variables that vLLM would set for its processes, for the seed's environment."""
    return _SET_BY_VLLM | _preloaded() | _threads()


def variables_read_at_start() -> dict[str, str]:
    """Variables of this process that libraries read only when they are loaded."""
    return {name: os.environ[name] for name in os.environ if name.startswith(_READ_AT_START)}


def remember_variables() -> None:
    """Record the seed's variables; called in the seed too, for the processes forked from it."""
    _seeds.update(os.environ)


class _Process(ForkServerProcess):
    def start(self) -> None:
        self._variables = dict(os.environ)
        self._cores = os.sched_getaffinity(0)
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._variables)
        if _BOUND_TO not in os.environ:
            # OpenMP bound the seed when it was loaded.
            os.sched_setaffinity(0, self._cores)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Processes that this one starts are forked from the same seed.
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
        super().run()


class _Context(ForkServerContext):
    Process = _Process


def _preloaded() -> dict[str, str]:
    """LD_PRELOAD as vLLM's CPU platform sets it: torch's OpenMP last, its allocator first."""
    torch, vllm = _package("torch"), _package("vllm")
    openmp = [*torch.parent.glob("torch.libs/libgomp*.so*"), *torch.glob("lib/libgomp*.so*")]
    allocator = [*vllm.glob("libs/libtcmalloc_minimal*.so*"), *vllm.glob("libs/libtcmalloc.so*")]
    before = os.environ.get("LD_PRELOAD", "")
    if not re.search(r"lib[gi]?omp", before):
        before = ":".join(filter(None, [before, *map(str, openmp[:1])]))
    if "libtcmalloc" not in before:
        before = ":".join(filter(None, [*map(str, allocator[:1]), before]))
    return {"LD_PRELOAD": before} if before else {}


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _threads() -> dict[str, str]:
    """OpenMP's variables as vLLM's CPU platform sets them for a worker with these cores."""
    cores = os.environ.get(THREAD_BINDING, "nobind")
    if not re.fullmatch(r"\d+(,\d+)*", cores):
        return {}
    return {"OMP_NUM_THREADS": str(cores.count(",") + 1), _BOUND_TO: cores.replace(",", " ")}
