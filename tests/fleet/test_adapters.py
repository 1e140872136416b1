"""Adapters on four replicas of the one-layer model: added under load, and a hundred over few slots.

    make fleet-adapters

The replicas follow one list, behind HAProxy. First a hundred adapters are listed, then one more
while clients ask. Then each way of HAProxy to choose a replica answers requests for adapters drawn
evenly: in turns, and by the name in `model` (docs/howto/routers.md). It fails if a request failed.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from service.cli.adapters_status import faults_of, replicas_at
from service.common.command_line import markdown_table
from service.settings.load import parse_adapter_list, read_adapter_list
from tests.fleet.replicas import Replica, replicas
from tests.fleet.routers import HAPROXYS, MODEL, Running
from tests.options import check_options, given
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.lora import LoraMaker
from tests.served.server import forked_servers
from tests.served.tiny import build_tiny_model
from training.packing import pack

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]

_REPLICAS, _CLIENTS, _TOKENS = 4, 48, 16
_PATIENCE_S = 1800


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name, forked_servers(Path(name)):
        yield Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = check_options("fleet-adapters", __doc__)
    parser.add_argument("--adapters", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60, help="Of each measurement.")
    parser.add_argument("--rounds", type=int, default=2, help="Measurements of each way.")
    return parser


def test_adapters(folder: Path) -> None:
    options = given(_parser())
    build_tiny_model(SMOLLM2, folder / "model")
    names = [f"a{number:03}" for number in range(options.adapters)]
    _write_adapters(folder, [*names, "late"])
    list_ = folder / "adapters.yaml"
    _list(list_)
    with replicas(folder, _config(folder), _REPLICAS) as made:
        print(f"{len(names)} adapters at once: {_served(made, list_, names):.1f} s", flush=True)
        with (
            _router(folder / "added", "in turns", made) as router,
            _crowd(router.url, names, _CLIENTS // 4) as met,
        ):
            wait_until(lambda: len(met.seconds) > 20, _PATIENCE_S, "answers")
            added = _served(made, list_, [*names, "late"])
        print(f"one more under load: {added:.1f} s, {met.told()}", flush=True)
        failures = met.failures
        rows = []
        for number in range(options.rounds):
            for way in HAPROXYS:
                place = folder / f"{way}-{number}"
                row, failed = _measure(place, way, made, names, options.seconds)
                print(f"{way}: {row}", flush=True)
                rows.append((way, *row))
                failures += failed
    columns = ("a replica is chosen", "answers/s", "reads of weights/s", "p50, s", "p95, s")
    print(markdown_table(columns, rows), flush=True)
    assert not failures, failures[:3]


def _config(folder: Path) -> Mapping[str, object]:
    """Eight slots; adapters kept in the host's memory as the service chooses by itself."""
    return {
        "model": {"name": MODEL, "path": str(folder / "model")},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 16, "max_lora_rank": 8},
        "adapters_path": str(folder / "adapters.yaml"),
        "adapter_cache": {"path": str(folder / "cache")},
        "admission": {"max_wait_ms": 600_000, "target_token_ms": None},
        "golden_timeout_s": 600,
        "watchdog": {"stall_s": 600},
    }


def _write_adapters(folder: Path, names: Sequence[str]) -> None:
    """Adapters of equal weights, each in a folder of its own with a digest of its own."""
    maker = LoraMaker(folder / "model", MODEL)
    first = folder / names[0]
    maker.write(first, name=names[0], version="1.0.0", seed=1, prompts=["Hello"], tokens=4)
    golden = {"file": "golden.jsonl", "match": "exact", "max_tokens": 4}
    for name in names[1:]:
        shutil.copytree(first, folder / name)
        draft = {"name": name, "version": "1.0.0", "task": "generation", "golden": golden}
        pack(folder / name, maker.base, draft, overwrite=True)


def _list(file: Path, names: Sequence[str] = ()) -> None:
    entries = [{"name": name, "source": name} for name in names]
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({"adapters": entries}))
    temporary.replace(file)


def _served(made: Sequence[Replica], list_: Path, names: Sequence[str]) -> float:
    """List these adapters; the seconds until every replica serves them."""
    _list(list_, names)
    began = time.monotonic()
    expected = parse_adapter_list(list_, read_adapter_list(list_)).digest
    addresses = [each.ops for each in made]
    wait_until(
        lambda: not faults_of(replicas_at(addresses), expected),
        _PATIENCE_S,
        "convergence",
        every=0.2,
    )
    return time.monotonic() - began


@dataclass
class _Met:
    """What clients met: the seconds of each answer, and what failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def told(self) -> str:
        return f"{len(self.seconds)} answers, {len(self.failures)} failed"


@contextmanager
def _crowd(url: str, names: Sequence[str], clients: int) -> Iterator[_Met]:
    """Clients that ask one adapter after the other, drawn evenly, until the block ends."""
    met, stopped = _Met(), Event()
    thread = Thread(target=lambda: asyncio.run(_ask_all(met, stopped, url, names, clients)))
    thread.start()
    try:
        yield met
    finally:
        stopped.set()
        thread.join()


async def _ask_all(met: _Met, stopped: Event, url: str, names: Sequence[str], clients: int) -> None:
    async with httpx.AsyncClient(
        timeout=_PATIENCE_S, trust_env=False, limits=httpx.Limits(max_connections=clients)
    ) as client:

        async def one(seed: int) -> None:
            drawn = random.Random(seed)
            while not stopped.is_set():
                body: dict[str, Any] = {"model": drawn.choice(names), "prompt": f"{drawn.random()}"}
                body |= {"max_tokens": _TOKENS, "ignore_eos": True}
                began = time.monotonic()
                try:
                    answer = await client.post(f"{url}/v1/completions", json=body)
                except httpx.HTTPError as error:
                    met.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    met.seconds.append(time.monotonic() - began)
                else:
                    met.failures.append(f"{answer.status_code}: {answer.text[:200]}")

        await asyncio.gather(*(one(seed) for seed in range(clients)))


def _measure(
    folder: Path, way: str, made: Sequence[Replica], names: Sequence[str], seconds: float
) -> tuple[tuple[str, ...], list[str]]:
    """Answers a second, reads of weights a second and latencies, after a while to settle."""
    with _router(folder, way, made) as router, _crowd(router.url, names, _CLIENTS) as met:
        time.sleep(seconds / 2)
        reads, before = _reads(made), len(met.seconds)
        time.sleep(seconds)
        found, reads = met.seconds[before:], _reads(made) - reads
    cuts = statistics.quantiles(found, n=20)
    rates = f"{len(found) / seconds:.1f}", f"{reads / seconds:.1f}"
    return (*rates, f"{cuts[9]:.2f}", f"{cuts[18]:.2f}"), met.failures


def _router(folder: Path, way: str, made: Sequence[Replica]) -> AbstractContextManager[Running]:
    folder.mkdir()
    return HAPROXYS[way].started(folder, [each.url for each in made])


def _reads(made: Sequence[Replica]) -> float:
    """Reads of evicted weights so far; replicas count them every ten seconds."""
    return sum(each.value("inference_adapter_misses_total") for each in made)
