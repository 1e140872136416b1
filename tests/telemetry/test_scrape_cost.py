"""A scrape of the largest number of series delays the serving loop by less than 20 ms.

The delay is counted as processor time of the scrape, which another process's work is no part of.
"""

import asyncio
import gc
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from service.context import Ending, Times
from service.telemetry.metrics import Metrics
from service.telemetry.series import expose
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
                    times=Times(decode=0.1, decode_tokens=2),
                )
                metrics.queued_for(context, 0.1)
                metrics.first_token(context, 0.1)
                metrics.between_tokens(context)(0.05, 2)
                metrics.used(context, 1, 0, 3)
                metrics.count_request(context, Ending("ok", 200))
    return registry


@pytest.mark.timing
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_the_loop_goes_on_beside_a_scrape(accept: str) -> None:
    registry = full_registry()
    # As the service does once it has started.
    gc.collect()
    gc.freeze()
    scraped, looked = threading.Event(), threading.Event()

    def scrape() -> None:
        for _ in range(3):
            expose(registry, accept)
        scraped.set()
        looked.wait()  # so that its clock lives

    scraping = threading.Thread(target=scrape)
    longest, steps = 0.0, 0
    scraping.start()
    assert scraping.ident is not None
    clock = time.pthread_getcpuclockid(scraping.ident)
    try:
        while not scraped.is_set():
            began = time.clock_gettime(clock)
            await asyncio.sleep(PAUSE_SECONDS)
            worked = time.thread_time() + WORK_SECONDS
            while time.thread_time() < worked:
                pass
            longest, steps = max(longest, time.clock_gettime(clock) - began), steps + 1
    finally:
        looked.set()
        scraping.join()
        gc.unfreeze()
    assert steps > 20
    assert longest < MOST_SECONDS + PAUSE_SECONDS + WORK_SECONDS
