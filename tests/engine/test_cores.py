"""Limits of processor time, read from trees of control groups as Linux shows them."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.vllm.environment import THREAD_BINDING, cpu_limit, joined, own_cores, thread_variables

GROUP = "sys/fs/cgroup"


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system with these groups of the process and these files of the control groups."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        pytest.param("0::/", {f"{GROUP}/cpu.max": "250000 100000"}, 2.5, id="v2 in a container"),
        pytest.param("0::/", {f"{GROUP}/cpu.max": "max 100000"}, None, id="v2 without a limit"),
        pytest.param(
            "0::/pods/one/main",
            {
                f"{GROUP}/pods/cpu.max": "800000 100000",
                f"{GROUP}/pods/one/cpu.max": "300000 100000",
                f"{GROUP}/pods/one/main/cpu.max": "max 100000",
            },
            3.0,
            id="v2, of a group above",
        ),
        pytest.param(
            "4:cpu,cpuacct:/docker/host\n0::/docker/host",
            {
                f"{GROUP}/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                f"{GROUP}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            0.5,
            id="v1, under the host's path",
        ),
        pytest.param(
            "4:cpuacct,cpu:/",
            {f"{GROUP}/cpu/cpu.cfs_quota_us": "-1", f"{GROUP}/cpu/cpu.cfs_period_us": "100000"},
            None,
            id="v1 without a limit",
        ),
        pytest.param("3:memory:/pod", {}, None, id="no group of processors"),
    ],
)
def test_the_limit_is_the_least_of_the_groups(
    tmp_path: Path, groups: str, files: dict[str, str], limit: float | None
) -> None:
    assert cpu_limit(tree(tmp_path, groups, files)) == limit


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) is None


@pytest.mark.parametrize(("limit", "threads"), [(0.5, "1"), (1.9, "1"), (2.0, "2")])
def test_a_limit_below_the_cores_decides_the_threads(limit: float, threads: str) -> None:
    found = thread_variables("all", [0, 1, 2, 3], limit)
    assert found == {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": threads}


@pytest.mark.parametrize("limit", [None, 4.0, 64.0])
@pytest.mark.parametrize(("cores", "bound"), [("all", "0,1,2,3"), ("2-3", "2-3"), ("auto", "auto")])
def test_without_a_lower_limit_the_cores_are_as_configured(
    cores: str, bound: str, limit: float | None
) -> None:
    found = thread_variables(cores, [0, 1, 2, 3], limit)
    assert found == {"VLLM_CPU_OMP_THREADS_BIND": bound}


def test_the_cores_are_those_of_this_process() -> None:
    with ThreadPoolExecutor(1) as thread:  # whose affinity is its own
        assert thread.submit(_on_one_core).result() == [own_cores()[0]]


def _on_one_core() -> list[int]:
    os.sched_setaffinity(0, own_cores()[:1])
    return own_cores()


@pytest.mark.parametrize(
    ("cores", "own", "limit", "variables"),
    [
        ("all", range(4), None, {THREAD_BINDING: "0,1|2,3"}),
        ("0-2,8,9", range(16), None, {THREAD_BINDING: "0,1|2,8,9"}),
        ("all", range(1), None, {THREAD_BINDING: "nobind", "OMP_NUM_THREADS": "1"}),
        ("all", range(16), 5.0, {THREAD_BINDING: "nobind", "OMP_NUM_THREADS": "2"}),
        ("auto", range(16), None, {THREAD_BINDING: "auto"}),
    ],
)
def test_two_ranks_share_the_cores_out(
    cores: str, own: range, limit: float | None, variables: dict[str, str]
) -> None:
    found = thread_variables(cores, own, limit, 2)
    assert found == variables
    assert joined(found[THREAD_BINDING]) == variables[THREAD_BINDING].replace("|", ",")
