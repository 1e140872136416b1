"""A service that begins as a program of its own: its processes, and starts that end early."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from loadtests.processes import wait_until
from service.models.base_model import base_model_digest, read_base_model
from service.settings.admission import PreparationSettings
from tests.adapters.samples import AdapterFolder, write_base
from tests.served.configuration import tiny_config
from tests.served.server import Server, begun_server, named, started_server

SECONDS = 300


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_start_and_all_that_it_has_begun(
    tiny_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    server = begun_server(tmp_path, tiny_config(tiny_folder))
    try:
        wait_until(
            lambda: bool(named("EngineCore", server.family())), SECONDS, "the engine's process"
        )
        family = server.family()
        server.process.send_signal(number)
        assert server.process.wait(SECONDS) == 128 + number, server.log.read_text()[-3000:]
    finally:
        server.process.kill()
    assert "ready: tiny" not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert psutil.wait_procs(family, SECONDS)[1] == []


def test_a_services_processes_are_forked_from_one_that_the_service_started(afresh: Server) -> None:
    family = afresh.family()
    (engine,), (worker,) = named("EngineCore", family), named("Worker", family)
    parent = engine.parent()
    assert parent is not None
    assert worker.parent() == parent
    assert parent.ppid() == afresh.process.pid
    assert "forkserver" in " ".join(parent.cmdline())


def test_so_is_the_program_that_compiles_structures(afresh: Server) -> None:
    (engine,) = named("EngineCore", afresh.family())
    seed = engine.parent()
    assert seed is not None
    (program,) = [child for child in seed.children() if "VLLM" not in " ".join(child.cmdline())]
    assert len(program.children()) == PreparationSettings().compilers
    # Ctrl-C of a terminal must not reach it.
    assert os.getsid(program.pid) == program.pid
    assert program.cpu_affinity() == psutil.Process(afresh.process.pid).cpu_affinity()


def test_their_threads_run_where_they_did_without_it(afresh: Server) -> None:
    (engine,), (worker,) = named("EngineCore", afresh.family()), named("Worker", afresh.family())
    own = psutil.Process(afresh.process.pid).cpu_affinity()
    assert engine.cpu_affinity() == own
    bound = [psutil.Process(thread.id).cpu_affinity() for thread in worker.threads()]
    assert {core for cores in bound for core in cores} == set(own)


def test_a_start_makes_no_full_collection_of_garbage_but_its_last(afresh: Server) -> None:
    series = httpx.get(f"{afresh.ops}/metrics", timeout=SECONDS).text
    full = re.search(r'python_gc_collections_total\{generation="2"\} (\S+)', series)
    assert full is not None
    # The imports of the commands, and typer, may make two before the start.
    assert 1 <= float(full[1]) <= 3


def test_the_collector_works_again_after_the_start() -> None:
    code = """
import gc
from service.common import gc_tuning
gc_tuning.pause()
print(gc.isenabled())
gc_tuning.freeze()
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["False", "True", "True"]


def test_a_collection_of_survivors_has_few_objects_to_look_at() -> None:
    code = """
import gc
from service.common import gc_tuning
gc_tuning.freeze()
seen = []
def count(phase, info):
    if phase == "start" and info["generation"] == 1:
        seen.append(len(gc.get_objects(0)) + len(gc.get_objects(1)))
gc.callbacks.append(count)
held = [[] for _ in range(100_000)]
print(len(seen) > 4, max(seen) < 20_000)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["True", "True"]


def test_the_pages_that_a_start_leaves_free_go_back_to_the_system() -> None:
    code = """
import psutil
from service.common import gc_tuning
held = [bytes(2_000) for _ in range(50_000)]
del held[:-1]  # the last keeps the heap from shrinking by itself
before = psutil.Process().memory_info().rss
gc_tuning.freeze()
print(before - psutil.Process().memory_info().rss > 80_000_000)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["True"]


def test_the_heap_is_held_in_huge_pages_where_the_kernel_makes_them() -> None:
    code = """
import ctypes
import mmap
import re
from pathlib import Path
from service.common import gc_tuning
held = [bytes(400) for _ in range(100_000)]
own = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own.write(bytes(8 << 20))
advise = ctypes.CDLL(None).madvise
advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
address = ctypes.addressof(ctypes.c_char.from_buffer(own))
refused = advise(-(-address // (2 << 20)) * (2 << 20), 2 << 20, 25)
gc_tuning.take_huge_pages()
huge = re.search(r"AnonHugePages: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())
print(bool(refused) or int(huge[1]) > 10_000, len(held))  # more than `own`
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["True", "100000"]


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started_server(tmp_path_factory.mktemp("plain"), tiny_config(tiny_folder)) as running:
        yield running


def test_their_threads_do_not_preempt_those_of_the_service(server: Server) -> None:
    for name in ("EngineCore", "Worker"):
        (process,) = named(name, server.family())
        policies = {os.sched_getscheduler(thread.id) for thread in process.threads()}
        assert policies == {os.SCHED_BATCH}
    assert os.sched_getscheduler(server.process.pid) == os.SCHED_OTHER


def test_a_killed_service_leaves_no_process(server: Server) -> None:
    family = server.family()
    server.process.kill()
    assert psutil.wait_procs(family, SECONDS)[1] == []


def test_a_model_of_another_digest_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_folder)
    config["model"] = {**config["model"], "digest": f"sha256:{'0' * 64}"}
    server = begun_server(tmp_path, config)
    assert server.process.wait(SECONDS) == 2
    digest = base_model_digest(tiny_folder)
    refusal = f"error: model.digest: must be that of {tiny_folder}, {digest}"
    assert refusal in server.log.read_text()


def test_a_required_adapter_that_is_broken_ends_the_process_with_one_message(
    tmp_path: Path,
) -> None:
    base = write_base(tmp_path / "base")
    described = read_base_model(base, name="base", max_rank=16)
    broken = AdapterFolder(tmp_path / "sentiment", described).save().path
    (broken / "golden.jsonl").write_text("edited")
    config = {
        "model": {"name": "base", "path": "base"},
        "engine": {"enforce_eager": True},
        "adapters": [{"source": "sentiment"}],
        "adapter_cache": {"path": "cache"},
    }
    server = begun_server(tmp_path, config)
    assert server.process.wait(SECONDS) == 2
    lines = server.log.read_text().splitlines()
    (message,) = [line for line in lines if not line.startswith("{")]
    # No engine could serve this base: its refusal would have come first.
    assert message.startswith("error: adapter sentiment: golden.jsonl: ")
