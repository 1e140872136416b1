"""Two replicas of the one-layer model behind each router of docs/howto/routers.md.

    make fleet ROUTER=envoy OPTIONS="--checks drain killed"

Installs what is missing into .cache/clients, starts the replicas, the router and what batches need,
and prints a line for each check. It fails if one failed and tests/fleet/routers.py does not say
that the router is at fault. `--write` writes the table of docs/howto/routers.md. With `--load` it
measures replicas on the mock engine instead: throughput, overload, and kills.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.checks import CHECKS, Fleet
from tests.fleet.load import figures
from tests.fleet.replicas import replicas
from tests.fleet.routers import MODEL, ROUTERS, Router
from tests.fleet.table import write, write_load
from tests.options import check_options, given
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.server import forked_servers
from tests.served.tiny import build_tiny_model
from tests.sources.servers import s3_server
from tests.tenants.redis_server import RedisServer

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name, forked_servers(Path(name)):
        yield Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = check_options("fleet", __doc__)
    parser.add_argument("--only", nargs="+", choices=ROUTERS, default=list(ROUTERS))
    parser.add_argument("--checks", nargs="+", default=[""], help="Parts of the checks' names.")
    parser.add_argument(
        "--write", action="store_true", help="Write the table of docs/howto/routers.md."
    )
    parser.add_argument("--load", action="store_true", help="Measure load in place of the checks.")
    parser.add_argument("--seconds", type=float, default=20, help="Of each measurement.")
    parser.add_argument("--killing", type=float, default=300, help="Seconds of kills.")
    return parser


def test_fleet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = given(_parser())
    if options.load:
        _measure_load(options, folder)
    else:
        _try_routers(options, folder, monkeypatch)


def _try_routers(
    options: argparse.Namespace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [name for name in CHECKS if any(part in name for part in options.checks)]
    build_tiny_model(SMOLLM2, folder / "model")
    failed = []
    with s3_server(monkeypatch), RedisServer() as redis:
        config = _config(folder, redis.url)
        with replicas(folder, config, events=True) as pair:
            for name in options.only:
                for each in pair:
                    each.revive()
                (place := folder / name).mkdir(parents=True)
                urls, events = [each.url for each in pair], [each.events for each in pair]
                with ROUTERS[name].started(place, urls, events=events) as router:
                    found = {}
                    for check in chosen:
                        found[check], fault = _tried(name, check, Fleet(router, pair))
                        failed += [f"{name}: {check}"] if fault else []
                if options.write:
                    write({name: found})
    assert not failed


def _measure_load(options: argparse.Namespace, folder: Path) -> None:
    """Figures on the mock engine; they take an hour."""
    build_tiny_model(SMOLLM2, folder / "model")
    lost = []
    for name in options.only:
        (place := folder / "load" / name).mkdir(parents=True)
        found = figures(place, folder / "model", name, options.seconds, options.killing)
        for what, figure in found.items():
            print(f"{name}: {what}: {figure}", flush=True)
        lost += [name] if found["neither answered nor failed"] != "0" else []
        if options.write:
            write_load({name: found})
    assert not lost


def _config(folder: Path, storage: str) -> dict[str, Any]:
    return {
        "model": {"name": MODEL, "path": str(folder / "model")},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 4},
        "admission": {"max_queued": 4, "max_wait_ms": 600_000, "target_token_ms": None},
        "batches": {
            "path": "batches",
            "files": "s3://models/batches",
            "storage": storage,
        },
    }


def _tried(name: str, check: str, fleet: Fleet) -> tuple[str, bool]:
    """The cell of a check, and whether it failed through no known fault of the router."""
    router: Router = ROUTERS[name]
    text, because = router.faults.get(check, ("", ""))
    try:
        CHECKS[check](fleet)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}".replace("\n", " ")[:400]
        known = bool(because) and text in failure
        print(f"{name}: {check}: {failure}{f' ({because})' if known else ''}", flush=True)
        for each in fleet.replicas:
            each.revive()
        return because if known else "no", not known
    print(f"{name}: {check}: works", flush=True)
    if because:
        print(f"{name}: {check}: works now, and should have failed: {because}", flush=True)
    return "yes", bool(because)
