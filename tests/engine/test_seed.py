"""The process that the engine's processes are forked from (CPU build)."""

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from vllm.v1.engine import utils

from loadtests.processes import wait_until
from service.vllm_engine.cpu import seed
from service.vllm_engine.process import read_vitals
from tests.engine.test_vllm import Running
from tests.engine.test_vllm import running as running  # a fixture
from tools.served.server import named


def test_what_the_worker_computes_counts_for_its_engine(running: Running) -> None:
    _, engine, _ = running
    (worker,) = named("Worker", psutil.Process().children(recursive=True))
    assert engine.vitals() == read_vitals([*engine._pids])
    try:
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: bool((seen := engine.vitals()) and seen.stopped), 30, "the stop")
    finally:
        worker.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_NUM_THREADS", "3"), ("LD_PRELOAD", "other.so"), ("MALLOC_ARENA", "")]
)
def test_a_process_that_needs_other_libraries_or_threads_starts_anew(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for variable in seed.variables_read_at_start():
        monkeypatch.delenv(variable)
    assert utils.get_mp_context().get_start_method() == "forkserver"
    monkeypatch.setenv(name, value)
    assert utils.get_mp_context() is get_context("spawn")


def test_without_a_seed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "_seeds", {})
    before = utils.get_mp_context
    seed.use_seed()
    assert utils.get_mp_context is before


def test_the_variables_of_a_child_are_those_of_its_parent_when_it_started(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "1")
    found = tmp_path / "found"
    process = utils.get_mp_context().Process(target=_write_variables, args=(found,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert found.read_text() == "1"


def _write_variables(file: Path) -> None:
    file.write_text(os.environ["OF_THE_PARENT"])
