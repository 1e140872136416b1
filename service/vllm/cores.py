"""Processors that this process may use, by its affinity and by its control groups."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

THREAD_BINDING = "VLLM_CPU_OMP_THREADS_BIND"
"""Variable that carries `cpu.cores` to vLLM: numbers of cores, `auto` or `nobind`."""

_ROOT = Path("/")


def own_cores() -> list[int]:
    """The cores of this process's affinity, in order."""
    return sorted(os.sched_getaffinity(0))


def cpu_limit(root: Path = _ROOT) -> float | None:
    """The least processor time per second that this process's control groups allow; None if all.

    A container's limit of CPUs is such a quota: it leaves every core of the machine visible, and
    stops all threads together when their time is used up. Reads cgroup v2's `cpu.max` and v1's
    `cpu.cfs_quota_us`, of the group and of those above it (Linux, admin-guide/cgroup-v2).
    """
    quotas = [_quota(group) for group in _groups(root)]
    return min((each for each in quotas if each is not None), default=None)


def thread_variables(
    cores: str, own: Sequence[int], limit: float | None, ranks: int = 1
) -> dict[str, str]:
    """Variables of the engine's threads for `cpu.cores`, this process's cores and its limit.

    Several `ranks` share the cores out.
    """
    if cores in ("all", "nobind") and limit is not None and limit < len(own):
        # More threads would use the time up sooner, and wait for those that were stopped.
        return {THREAD_BINDING: "nobind", "OMP_NUM_THREADS": str(max(1, int(limit / ranks)))}
    if cores not in ("auto", "nobind") and ranks > 1:
        return _shared_out(list(own) if cores == "all" else _numbers(cores), ranks)
    return {THREAD_BINDING: ",".join(map(str, own)) if cores == "all" else cores}


def joined(binding: str | None) -> str | None:
    """The cores of all ranks together, for an engine of one."""
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
