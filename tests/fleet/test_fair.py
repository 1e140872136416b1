"""Four replicas on the mock engine that share tenants' counters, and one tenant with only one.

    make fleet-fair

Four tenants ask for more than there is: three at all replicas, the fourth at the first one only.
Jain's index of their answers before there is a store, with one, while it is away and hangs, and
after its return. Then what an answer pays for the store, with replicas that have nothing else to
do. `--write` writes the table of docs/admission.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from tests.fleet.crowd import FAILED, OK, REFUSED, SILENT, Crowd, crowd
from tests.fleet.replicas import Replica, replicas
from tests.fleet.routers import MODEL
from tests.options import check_options, given
from tests.served.configuration import SMOLLM2
from tests.served.server import forked_servers
from tests.served.tiny import build_tiny_model
from tests.tenants.redis_server import RedisServer
from tools.keys import bearer, entry, key_of, write_keys
from tools.markdown_pages import page_with

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]

_PAGE = Path("docs/admission.md")
_RATE, _SLOTS, _TOKENS = 20, 8, 20
"""Tokens a second of each stream, streams of each replica, and tokens of each answer."""
_PINNED, _SPREAD = "pinned", ("one", "two", "three")
_SETTLE_S = 5.0
_FAIR = 0.98
_WAIT_S = 60
_BODY: dict[str, Any] = {"model": MODEL, "max_tokens": _TOKENS, "ignore_eos": True}
_SHORT = _BODY | {"max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name, forked_servers(Path(name)):
        yield Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = check_options("fleet-fair", __doc__)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20, help="Of each measurement.")
    parser.add_argument("--answers", type=int, default=2000, help="Whose time is compared.")
    parser.add_argument("--write", action="store_true", help="Write the table of the page.")
    return parser


def test_fair(folder: Path) -> None:
    options = given(_parser())
    build_tiny_model(SMOLLM2, folder / "model")
    rate = folder / "rate"
    program = ("tools.mock_engine", f"--rate={rate}", "service.cli.main")
    with RedisServer() as redis:
        redis.kill()
        rate.write_text(str(_RATE))
        with replicas(folder, _config(folder, redis.url), options.replicas, program) as made:
            rows, jains = _fairness(made, redis, options.seconds)
        rate.write_text("")
        with (
            replicas(_made(folder / "alone"), _config(folder, None), 1, program) as (plain,),
            replicas(_made(folder / "sharing"), _config(folder, redis.url), 1, program) as (one,),
        ):
            rows += _times(one, plain, redis, options.answers)
    table = "\n".join(["| on the mock engine | |", "| --- | --- |", *rows])
    print(table, flush=True)
    if options.write:
        _PAGE.write_text(page_with(_PAGE, "fair", table), encoding="utf-8")
    assert jains["with the store"] >= _FAIR
    assert jains["after its return"] >= _FAIR


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _config(folder: Path, storage: str | None) -> dict[str, Any]:
    keys = write_keys(folder / "keys.json", *(entry(each) for each in (_PINNED, *_SPREAD)))
    wait = {"target_token_ms": None, "max_wait_ms": 1000 * _WAIT_S}
    return {
        "model": {"name": MODEL, "path": str(folder / "model")},
        "engine": {"max_num_seqs": _SLOTS},
        "admission": wait if storage is None else wait | {"storage": storage},
        "tenants": {"keys": str(keys)},
    }


def _fairness(
    made: Sequence[Replica], redis: RedisServer, seconds: float
) -> tuple[list[str], dict[str, float]]:
    """Rows of Jain's index in each state of the store, and the indices."""
    rows, jains = [], {}
    with ExitStack() as stack:
        met = {_PINNED: [stack.enter_context(_clients(made[0], _PINNED, 2 * _SLOTS))]}
        for tenant in _SPREAD:
            asking = (_clients(each, tenant, _SLOTS) for each in made)
            met[tenant] = [stack.enter_context(each) for each in asking]
        for state, change, shared in (
            ("without a store", None, 0),
            ("with the store", redis.start, 1),
            ("while the store is away", redis.kill, 0),
            ("after its return", redis.start, 1),
            ("while the store hangs", redis.freeze, 0),
        ):
            if change is not None:
                change()
            _wait_until_shared(made, shared)
            time.sleep(_SETTLE_S)
            answers, lost = _answers(met, seconds)
            jains[state] = sum(answers) ** 2 / (len(answers) * sum(n * n for n in answers))
            shown = ", ".join(f"{each / seconds:.1f}" for each in answers)
            rows.append(f"| Jain's index {state} | {jains[state]:.3f} ({shown} a second){lost} |")
            print(rows[-1], flush=True)
        redis.thaw()
    return rows, jains


def _clients(replica: Replica, tenant: str, number: int) -> AbstractContextManager[Crowd]:
    return crowd(replica.url, number, _BODY, key=key_of(tenant))


def _wait_until_shared(made: Sequence[Replica], shared: int) -> None:
    series = "inference_fairness_shared"
    wait_until(lambda: all(each.value(series) == shared for each in made), _WAIT_S, series)


def _answers(met: dict[str, list[Crowd]], seconds: float) -> tuple[list[int], str]:
    """Answers of each tenant in the next seconds, and what was refused or failed."""
    begins = {tenant: [each.now for each in of] for tenant, of in met.items()}
    time.sleep(seconds)
    answers, lost = [], 0
    for tenant, of in met.items():
        found = [
            each.outcomes(begin, begin + seconds)
            for each, begin in zip(of, begins[tenant], strict=True)
        ]
        answers.append(sum(each[OK] for each in found))
        lost += sum(each[REFUSED] + each[FAILED] + each[SILENT] for each in found)
    return answers, f", {lost} refused or failed" if lost else ""


def _times(sharing: Replica, plain: Replica, redis: RedisServer, answers: int) -> list[str]:
    """Rows of what an answer takes longer than without the setting, in each state of the store."""
    rows = []
    for state, change, shared in (
        ("with the store", None, 1),
        ("while it hangs", redis.freeze, 0),
        ("while it is away", redis.kill, 0),
    ):
        if change is not None:
            change()
        _wait_until_shared([sharing], shared)
        with_it, without = _compared(sharing, plain, answers)
        shown = []
        for part in (50, 99):
            base, more = (
                _quantile(without, part),
                _quantile(with_it, part) - _quantile(without, part),
            )
            shown.append(f"p{part} {1000 * base:.2f} ms {1000 * more:+.2f}")
        rows.append(
            f"| an answer of one token {state}, against none configured | {', '.join(shown)} |"
        )
        print(rows[-1], flush=True)
    with suppress(AssertionError):
        redis.thaw()
    return rows


def _compared(one: Replica, other: Replica, answers: int) -> tuple[list[float], list[float]]:
    """Seconds of so many answers of each replica, asked in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    with (
        httpx.Client(base_url=one.url, headers=bearer(_PINNED), trust_env=False) as first,
        httpx.Client(base_url=other.url, headers=bearer(_PINNED), trust_env=False) as second,
    ):
        for number in range(answers + 50):
            for client, found in zip((first, second), times, strict=True):
                began = time.perf_counter()
                client.post("/v1/chat/completions", json=_SHORT).raise_for_status()
                if number >= 50:  # the first ones warm up
                    found.append(time.perf_counter() - began)
    return times


def _quantile(times: Sequence[float], part: int) -> float:
    return statistics.quantiles(times, n=100)[part - 1]
