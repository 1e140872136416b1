"""Figures of replicas on the mock engine behind a router: throughput, overload, kills."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tests.fleet.crowd import FAILED, OK, REFUSED, SILENT, Crowd, crowd
from tests.fleet.replicas import Replica, replicas
from tests.fleet.routers import MODEL, ROUTERS, Running
from tools.keys import entry, key_of, write_keys

RATE, SLOTS, TOKENS = 20, 8, 20
"""Tokens a second of each stream, streams of each replica, and tokens of each answer."""
_SIZES = (1, 2, 4)
"""Replicas behind the router; the first number is what the others are compared with."""
_HEAVY = ("one", "two", "three", "four")
_LIGHT = "light"
_BODY: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": TOKENS,
    "ignore_eos": True,
}
_GOOD_S = TOKENS / RATE + 1.5 + 0.5
"""An answer in time: its own, the longest wait of admission, and half a second."""
_KILL_EVERY_S = 20.0

Figures = Mapping[str, str]


def figures(folder: Path, model: Path, name: str, seconds: float, killing_s: float) -> Figures:
    """The figures of a router, by what they are."""
    keys = write_keys(folder / "keys.json", *(entry(each) for each in (*_HEAVY, _LIGHT)))
    config = {
        "model": {"name": MODEL, "path": str(model)},
        "engine": {"max_num_seqs": SLOTS},
        "admission": {"target_token_ms": None},
        "tenants": {"keys": str(keys)},
    }
    program = ("tools.mock_engine", f"--rate={RATE}", "service.cli.main")
    with replicas(folder, config, max(_SIZES), program) as made:
        found, one = {}, 0.0
        for size in _SIZES:
            # One replica is no choice, and some policies refuse it.
            way = name if size > 1 else name.partition("/")[0]
            rate = _throughput(folder / f"of-{size}", way, made[:size], seconds)
            one = one or rate
            found[f"answers a second, of {size}"] = f"{rate:.1f} ({rate / one:.2f} times)"
        for size in _SIZES[1:]:
            with _router(folder / f"overloaded-{size}", name, made[:size]) as router:
                found |= _overload(router.url, size, seconds)
        with _router(folder / "killed", name, made) as router:
            found |= _killing(router.url, made, killing_s)
    return found


def _router(folder: Path, name: str, of: Sequence[Replica]) -> AbstractContextManager[Running]:
    folder.mkdir()
    return ROUTERS[name].started(folder, [each.url for each in of], key=key_of(_LIGHT))


def _throughput(folder: Path, name: str, of: Sequence[Replica], seconds: float) -> float:
    """Answers a second while every slot is asked for, by half as many clients more than slots."""
    with _router(folder, name, of) as router, ExitStack() as stack:
        clients = 3 * SLOTS * len(of) // 2 // len(_HEAVY)
        met = [stack.enter_context(_crowd(router.url, each, clients)) for each in _HEAVY]
        time.sleep(2)
        begin = met[0].now
        time.sleep(seconds)
        answered = sum(each.outcomes(begin, begin + seconds)[OK] for each in met)
    return answered / seconds


def _crowd(
    url: str, tenant: str, clients: int, pause: float = 0.0
) -> AbstractContextManager[Crowd]:
    return crowd(url, clients, _BODY, key=key_of(tenant), pause=pause)


def _overload(url: str, size: int, seconds: float) -> Figures:
    """Five times as many clients as slots, of four tenants, and one client of a light tenant."""
    clients = 5 * size * SLOTS // len(_HEAVY)
    with ExitStack() as stack:
        heavy = [stack.enter_context(_crowd(url, each, clients)) for each in _HEAVY]
        light = stack.enter_context(_crowd(url, _LIGHT, 1, 0.25))
        time.sleep(2)
        begin = light.now
        time.sleep(seconds)
        end = light.now
    answered = [each.outcomes(begin, end)[OK] for each in heavy]
    good = [_good(each, begin, end) for each in (*heavy, light)]
    lights = light.outcomes(begin, end)
    failed = sum(each.outcomes()[FAILED] + each.outcomes()[SILENT] for each in (*heavy, light))
    jain = sum(answered) ** 2 / (len(answered) * sum(each * each for each in answered) or 1)
    figures = (
        f"{sum(good) / seconds:.1f} a second",
        f"{jain:.3f}",
        f"{lights[REFUSED]} of {lights.total()}",
        str(failed),
    )
    told = "five times the load: goodput, Jain's index, refused of a light tenant, failed"
    return {f"of {size}, {told}": ", ".join(figures)}


def _good(met: Crowd, begin: float, end: float) -> int:
    ended = (each for each in met.ended if begin <= each.at < end)
    return sum(each.outcome == OK and each.seconds <= _GOOD_S for each in ended)


def _killing(url: str, made: Sequence[Replica], seconds: float) -> Figures:
    """Replicas are killed in turn, at fixed times, and started again; half of the clients stream.

    A replica takes longer to start than the next one has to live, so that two may be away at once.
    """
    kills, began = 0, time.monotonic()
    with (
        crowd(url, 6, _BODY, key=key_of("one"), pause=0.1) as whole,
        crowd(url, 6, _BODY | {"stream": True}, key=key_of("two"), pause=0.1) as streams,
    ):
        while time.monotonic() - began < seconds:
            victim = made[kills % len(made)]
            victim.wait()
            victim.kill()
            kills += 1
            victim.begin()
            time.sleep(max(0.0, began + kills * _KILL_EVERY_S - time.monotonic()))
    outcomes = whole.outcomes() + streams.outcomes()
    print(json.dumps({"errors": whole.details(FAILED) + streams.details(FAILED)}), flush=True)
    print(json.dumps({"neither": whole.details(SILENT) + streams.details(SILENT)}), flush=True)
    return {
        "kills": f"{kills} in {time.monotonic() - began:.0f} s",
        "answered, refused, failed with an error": (
            f"{outcomes[OK]}, {outcomes[REFUSED]}, {outcomes[FAILED]}"
        ),
        "neither answered nor failed": str(outcomes[SILENT]),
    }
