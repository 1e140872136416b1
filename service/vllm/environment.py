"""Environment variables of the engine's processes, and the cores that these may use."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from service.settings import section as platform
from service.settings.tree import CpuSettings, Settings
from service.vllm.argument_checks import by_vllms_names

GROUPED_ADAPTERS = "GROUPED_CPU_ADAPTERS"
"""Variable that carries `cpu.grouped_adapters` to the worker: `1` or `0`."""

STARTED_BY_US = "STARTED_BY_LLM_SERVICE"
"""Variable that this service's processes have, and a vLLM that others start in the same Python
environment has not."""

KV_CACHE_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""Variable that carries `cpu.kv_cache_gib` to vLLM's CPU build."""

COMPILED_PRODUCTS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""Variable that carries `cpu.compiled_products` to oneDNN: to vLLM's, and to torch's for adapters,
which read it when they compile their first product."""

COMPILER_OFF = "TORCHDYNAMO_DISABLE"
"""Variable that switches the compiler off: even in eager mode vLLM compiles its log-probability
ranks, which delays the first request by 12 s and needs a C++ compiler where the service runs."""

BAD_WORDS_TOKENS = 16_384
"""Room for the tokens of a request's `bad_words` on the device, beyond which vLLM's worker ends.

The default caps allow 512 bytes; a tokeniser that normalises (NFKC) makes up to 11 bytes of one, no
token is shorter than a byte, and vLLM keeps each word with and without a space before it.
"""

_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Settings of glibc's malloc, which the engine's processes read at their start; without these it
returns each step's tensors to the system, for about 45 page faults a token (CPU build)."""

_NOTHING_COMPILED = {
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_MOE_USE_DEEP_GEMM": "0",
}
"""Switches that turn off the kernels that nvcc compiles at their first use."""

LEAST_NVCC = 13
"""Release of the compiler for torch's own build for CUDA; an older one lacks cards and headers."""


def apply_environment(settings: Settings) -> None:
    """Set the variables that vLLM, torch and our plugin read; keeps vLLM's that are set."""
    os.environ[STARTED_BY_US] = "1"
    apply_platform_environment()
    variables = {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OTEL_SERVICE_NAME": settings.tracing.service_name,
    }
    if platform.installed() is platform.CPU:
        variables |= _of_cpu(settings.cpu, _ranks(settings.engine))
    engines = [settings.engine] if settings.model else [each.engine for each in settings.encoders]
    if all(map(is_eager, engines)):
        variables[COMPILER_OFF] = "1"
    _set_missing(variables)
    os.environ[GROUPED_ADAPTERS] = "1" if settings.cpu.grouped_adapters else "0"


def apply_platform_environment() -> None:
    """Set the variables that depend only on the platform; workers on other nodes call this too."""
    variables = {
        # vLLM would fork a process that has threads and, after finetuning, a context on the GPU.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_MAX_BAD_WORDS_TOTAL_TOKENS": str(BAD_WORDS_TOKENS),
    }
    if platform.installed() is platform.CPU:
        variables |= _KEEP_MEMORY
    elif not compiles_kernels():
        variables |= _NOTHING_COMPILED
        # vLLM 0.32 uses FlashInfer's attention on data centres' Blackwell cards (compute capability
        # 10) wherever the package can be imported, and without nvcc or its precompiled kernels the
        # engine would end at its first step. Where it appears not installed, vLLM uses the next
        # backend (`CudaPlatformBase.get_valid_backends`).
        if importlib.util.find_spec("flashinfer_cubin") is None:
            sys.modules.setdefault("flashinfer", None)  # type: ignore[arg-type]
    _set_missing(variables)


def is_eager(engine: Mapping[str, Any]) -> bool:
    """True if these arguments of vLLM's ask for eager mode."""
    return str(engine.get("enforce_eager")).lower() == "true"


def compiles_kernels() -> bool:
    """True if CUDA kernels can be compiled: g++, ninja, and nvcc where FlashInfer seeks it.

    An nvcc older than LEAST_NVCC does not count.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if not home:
        nvcc = shutil.which("nvcc")
        home = str(Path(nvcc).parents[1]) if nvcc else "/usr/local/cuda"
    found = shutil.which(f"{home}/bin/nvcc")
    tools = all(shutil.which(tool) for tool in ("g++", "ninja"))
    return found is not None and tools and _release(found) >= LEAST_NVCC


def _release(nvcc: str) -> int:
    """The release of a compiler, as 13; 0 where it does not say."""
    try:
        said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    release = re.search(r"release (\d+)\.", said.stdout)
    return int(release[1]) if release else 0


def _ranks(engine: Mapping[str, Any]) -> int:
    """The number of the model's ranks in this process; an invalid argument counts as one rank."""
    stated = by_vllms_names(engine)
    several = str(stated.get("data_parallel_size", 1))
    external = {"data_parallel_rank", "data_parallel_external_lb"} & stated.keys()
    return 1 if external or not several.isdecimal() else max(1, int(several))


def _of_cpu(settings: CpuSettings, ranks: int) -> dict[str, str]:
    return thread_variables(settings.cores, own_cores(), cpu_limit(), ranks) | {
        # Threads that wait for each other sleep, but not at once: most waits are short, and waking
        # takes time. GNU's OpenMP, which torch uses, spins for this many rounds before; others read
        # the policy only.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "10000",
        KV_CACHE_SPACE: str(settings.kv_cache_gib),
        COMPILED_PRODUCTS: str(settings.compiled_products),
    }


def compiled_products(settings: CpuSettings) -> int:
    """The number of compiled products that oneDNN caches: from the variable, else from the setting.

    Raises ConfigurationError if the variable is not a whole number.
    """
    told = os.environ.get(COMPILED_PRODUCTS, str(settings.compiled_products))
    if not told.isdecimal():
        raise ConfigurationError(f"{COMPILED_PRODUCTS} must be a whole number, got {told!r}")
    return int(told)


@contextmanager
def variables_set(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of this process during the block; a value of None removes one."""
    before = {name: os.environ.get(name) for name in variables}
    _change(variables)
    try:
        yield
    finally:
        _change(before)


def _change(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _set_missing(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


THREAD_BINDING = "VLLM_CPU_OMP_THREADS_BIND"
"""Variable that carries `cpu.cores` to vLLM: numbers of cores, `auto` or `nobind` (not bound)."""

_ROOT = Path("/")


def own_cores() -> list[int]:
    """The cores that this process may run on (its affinity), in order."""
    return sorted(os.sched_getaffinity(0))


def cpu_limit(root: Path = _ROOT) -> float | None:
    """The CPU quota of this process's control groups, in CPUs;

    None without a quota. A container's CPU limit is such a quota: all cores of the machine stay
    visible, but all threads are paused when the quota is used up. Reads cgroup v2's `cpu.max` and
    v1's `cpu.cfs_quota_us`, of the group and of those above it (Linux, admin-guide/cgroup-v2).
    """
    quotas = [_quota(group) for group in _groups(root)]
    return min((each for each in quotas if each is not None), default=None)


def thread_variables(
    cores: str, own: Sequence[int], limit: float | None, ranks: int = 1
) -> dict[str, str]:
    """Thread variables for the engine, from `cpu.cores`, this process's cores and its CPU quota.

    Several `ranks` divide the cores among them.
    """
    if cores == "all" and limit is not None and limit < len(own):
        # More threads would use the time up sooner, and wait for those that were stopped.
        return {THREAD_BINDING: "nobind", "OMP_NUM_THREADS": str(max(1, int(limit / ranks)))}
    if cores != "auto" and ranks > 1:
        return _shared_out(list(own) if cores == "all" else _numbers(cores), ranks)
    return {THREAD_BINDING: ",".join(map(str, own)) if cores == "all" else cores}


def joined(binding: str | None) -> str | None:
    """Join the cores of several ranks in a thread binding, for an engine with a single rank."""
    return binding.replace("|", ",") if binding else binding


def _shared_out(cores: Sequence[int], ranks: int) -> dict[str, str]:
    if len(cores) < ranks:
        return {THREAD_BINDING: "nobind", "OMP_NUM_THREADS": "1"}
    parts = [
        cores[len(cores) * rank // ranks : len(cores) * (rank + 1) // ranks]
        for rank in range(ranks)
    ]
    return {THREAD_BINDING: "|".join(",".join(map(str, part)) for part in parts)}


def _numbers(cores: str) -> list[int]:
    """The cores of a list such as `0-3,8`."""
    bounds = [part.split("-") for part in cores.split(",")]
    return [number for part in bounds for number in range(int(part[0]), int(part[-1]) + 1)]


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that may limit this process.

    In a container the path may be the host's, of which the container sees only the last group, as
    the root of the mounted tree.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            tree = mounted
        elif "cpu" in controllers.split(","):
            tree = mounted / controllers
            tree = tree if tree.exists() else mounted / "cpu"
        else:
            continue
        group = Path(path.lstrip("/"))
        yield from (tree / each for each in (group, *group.parents))


def _quota(group: Path) -> float | None:
    found = _read(group / "cpu.max").split()
    if not found:
        found = [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = found
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
