"""Cost of the console: `python -m tools.console_cost`, four minutes after the start of the service.

Loads the console in headless Chromium: bytes, and the time until it can be used. Then measures the
processor time of the service's process (not of its engine), which has nothing else to do, with
viewers of the live view and without, in turns; they see a release and a batch. And that of reading
the series alone, with as many combinations of labels as the service keeps.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Response, sync_playwright
from prometheus_client import CollectorRegistry

from loadtests.processes import wait_until
from service.context import Ending, internal_context
from service.settings.telemetry import MetricsSettings
from service.telemetry.history import INTERVAL_S, History
from service.telemetry.metrics import Metrics
from tests.served.server import START_SECONDS, Server, running_server
from tools.browser import launch_options
from tools.command_line import command_line
from tools.console_service import TENANT, configuration, make_batch
from tools.keys import bearer, key_of

VIEWERS = 10
SECONDS = 60.0
READINGS = 20
LOADS = 5
LINES, ASKED = 20, 60


async def _view(server: Server) -> None:
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream("GET", f"{server.ops}/console/live") as answer,
    ):
        answer.raise_for_status()
        async for _ in answer.aiter_raw():
            pass


async def _spent(server: Server, viewers: int) -> float:
    """Share of a core that the service's process takes with so many viewers."""
    process = psutil.Process(server.process.pid)
    async with asyncio.TaskGroup() as group:
        looking = [group.create_task(_view(server)) for _ in range(viewers)]
        await asyncio.sleep(INTERVAL_S)  # the connections are made
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(SECONDS)
        spent: float = sum(process.cpu_times()[:2]) - before
        for each in looking:
            each.cancel()
    return spent / SECONDS


def _work(server: Server) -> None:
    """Have something to show: answers of both versions of the release, and a batch."""
    make_batch(server, TENANT, LINES)
    body = {"model": "sentiment", "input": "It was on television last night."}
    for _ in range(ASKED):
        server.post("/v1/classify", body, headers=bearer(TENANT)).raise_for_status()
    wait_until(lambda: server.metric("inference_batches_ended_total"), START_SECONDS, "the batch")


def _reading() -> float:
    """Seconds of processor time of one reading with every combination of labels."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(MetricsSettings().max_combinations):
        context = internal_context("cost", 60.0)
        context.model = f"m{number}"
        context.times.decode, context.times.decode_tokens = 0.1, 10
        metrics.first_token(context, 0.1)
        metrics.used(context, 1, 0, 11)
        metrics.answered(context, Ending("ok", 200))
    history = History(registry)
    began = time.thread_time()
    for _ in range(READINGS):
        history.take()
    return (time.thread_time() - began) / READINGS


def _first_use(server: Server) -> None:
    """Print the weight of the page, and the time until a request can be sent with a key."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        times = []
        for _ in range(LOADS):
            page = browser.new_context().new_page()
            answers: list[Response] = []
            page.on("response", answers.append)
            began = time.perf_counter()
            page.goto(f"{server.url}/console")
            page.locator("#key-dialog").wait_for()
            asked = time.perf_counter()
            page.locator("#key").fill(key_of(TENANT))
            page.locator("#key").press("Enter")
            page.locator("#model option").first.wait_for(state="attached")
            times.append((asked - began, time.perf_counter() - asked))
            weight = sum(len(each.body()) for each in answers if "/console" in each.url)
            page.context.close()
        browser.close()
    shown, usable = (1000 * statistics.median(each) for each in zip(*times, strict=True))
    print(f"{weight} bytes; {shown:.0f} ms until it asks for a key, {usable:.0f} ms more to use it")


def main() -> None:
    """Measure and print."""
    reading = _reading()
    print(f"a reading takes {1000 * reading:.1f} ms: {reading / INTERVAL_S:.2%} of a core")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), configuration(Path(folder))) as server,
    ):
        _first_use(server)
        _work(server)
        for viewers in (0, VIEWERS) * 2:
            share = asyncio.run(_spent(server, viewers))
            print(f"{viewers} viewers: {share:.2%} of a core", flush=True)


if __name__ == "__main__":
    command_line("tools.console_cost", __doc__).parse_args()
    main()
