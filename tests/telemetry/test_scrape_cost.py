"""A scrape of the largest number of series delays the serving loop by less than 20 ms."""

import asyncio
import gc
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from service.context import Ending
from service.telemetry.exposition import expose
from service.telemetry.metrics import Metrics
from tests.telemetry.contexts import ended_request

ROUTES = ("/v1/generate", "/v1/classify", "/v1/chat/completions", "/v1/completions")
WORK_SECONDS, PAUSE_SECONDS = 0.0003, 0.0005
MOST_SECONDS = 0.02


def full_registry() -> CollectorRegistry:
    """Every series that the default bounds allow for four routes and four models."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for route in ROUTES:
        for model in "abcd":
            for tenant in range(64):
                context = ended_request(
                    route=route,
                    model=model,
                    tenant=f"t{tenant}",
                    decode_seconds=0.1,
                    decode_tokens=2,
                )
                metrics.queued_for(context, 0.1)
                metrics.first_token(context, 0.1)
                metrics.between_tokens(context)(0.05, 2)
                metrics.used(context, 1, 0, 3)
                metrics.answered(context, Ending("ok", 200))
    return registry


@pytest.mark.timing
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_the_loop_goes_on_beside_a_scrape(accept: str) -> None:
    registry = full_registry()
    # As the service does once it has started.
    gc.collect()
    gc.freeze()
    scrape = threading.Thread(target=lambda: [expose(registry, accept) for _ in range(3)])
    longest, steps = 0.0, 0
    scrape.start()
    try:
        while scrape.is_alive():
            began = time.perf_counter()
            await asyncio.sleep(PAUSE_SECONDS)
            while time.perf_counter() - began < PAUSE_SECONDS + WORK_SECONDS:
                pass
            longest, steps = max(longest, time.perf_counter() - began), steps + 1
    finally:
        scrape.join()
        gc.unfreeze()
    assert steps > 20
    assert longest < MOST_SECONDS + PAUSE_SECONDS + WORK_SECONDS
