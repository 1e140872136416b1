"""The series of the event loop's delay."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry.lifecycle import LoopLag

SECONDS = 0.5


def sleep() -> None:
    time.sleep(SECONDS)


def compute() -> None:
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(("stall", "own"), [(sleep, False), (compute, True)])
async def test_the_part_in_which_the_process_computes_is_its_own(
    stall: Callable[[], None], own: bool
) -> None:
    registry = CollectorRegistry()
    measuring = asyncio.create_task(LoopLag(registry).run())
    await asyncio.sleep(0.1)
    stall()
    await asyncio.sleep(0.1)
    measuring.cancel()
    with suppress(asyncio.CancelledError):
        await measuring
    assert _longer_than(0.25, registry, "event_loop_lag") > 0
    assert (_longer_than(0.25, registry, "event_loop_own_lag") > 0) is own


def _longer_than(seconds: float, registry: CollectorRegistry, series: str) -> float:
    bucket = f"inference_{series}_seconds_bucket"
    every, short = (registry.get_sample_value(bucket, {"le": le}) for le in ("+Inf", str(seconds)))
    assert every is not None
    assert short is not None
    return every - short
