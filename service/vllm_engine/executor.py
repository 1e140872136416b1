"""The executor of the CPU build: one worker, in the engine's own process."""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.executor.uniproc_executor import UniProcExecutor


def keep_worker_in_engine(config: VllmConfig) -> None:
    """Let the worker of an engine that has only one on CPUs run in the engine's process.

    On a GPU vLLM does so itself. On CPUs it starts a process for the worker, which costs a second
    import of torch, memory, and an engine that polls for the worker's answers (decision 42).
    """
    if current_platform.is_cpu() and config.parallel_config.world_size_across_dp == 1:
        config.parallel_config.distributed_executor_backend = UniProcExecutor


@contextmanager
def worker_variables(config: VllmConfig) -> Iterator[None]:
    """The environment in which an engine's process that holds a worker on CPUs starts.

    These are the variables that vLLM gives a worker's process: torch's OpenMP reads them once.
    """
    if config.parallel_config.distributed_executor_backend is not UniProcExecutor:
        yield
        return
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        yield
