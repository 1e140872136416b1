"""Prometheus, Alertmanager and Valkey around the running service: faults, alerts, panels.

    make ops-test OPTIONS="--images docs/images"

Prints a line for each alert and for each dashboard; fails where one did not fire or clear, or where
a panel stayed empty. Takes about five minutes.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from deploy.grafana.dashboard import PAGES
from loadtests.processes import eventually
from tests.ops.exporters import Exporters, exporters
from tests.ops.faults import Fault, Faults
from tests.ops.panels import Lines, lines_of, plot
from tests.ops.programs import PROGRAMS, Program, alertmanager, prometheus, valkey
from tests.ops.rules import ALERTS
from tests.ops.site import ADAPTER, BROKEN, Site, series_of
from tests.ops.traffic import traffic_on
from tests.ops.webhook import Deliveries, webhook
from tests.options import check_options, given
from tests.served.server import Server, started_server
from tools.programs import provide

pytestmark = [pytest.mark.ops, pytest.mark.timeout(0)]

_FIRE_SECONDS, _CLEAR_SECONDS = 120.0, 120.0
_STEADY_SECONDS = 70.0


class Run:
    """The findings of a run so far."""

    def __init__(self, deliveries: Deliveries, watcher: Program, images: Path | None) -> None:
        self._deliveries = deliveries
        self._watcher = watcher
        self._images = images
        self._began = time.time()
        self.failures: list[str] = []

    async def provoke(self, fault: Fault) -> None:
        """Cause a fault; its alerts must be delivered, and be resolved when it has ended."""
        await fault.begin()
        await self._all(fault.alerts, "firing", _FIRE_SECONDS)
        await fault.end()
        fired = tuple(alert for alert in fault.alerts if alert in self._deliveries.fired)
        await self._all(fired, "resolved", _CLEAR_SECONDS)

    async def look_at_panels(self) -> None:
        """Query every panel from the start of the run; none may be empty."""
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            for page in PAGES:
                shown: dict[str, Lines] = {}
                for panel in page.panels:
                    shown[panel.title] = await lines_of(
                        http, self._watcher.url, panel, self._began, time.time()
                    )
                empty = [title for title, lines in shown.items() if not lines]
                self.failures += [f"{page.uid}: {title!r} is empty" for title in empty]
                count = sum(len(lines) for lines in shown.values())
                tell(f"dashboard {page.uid}: {len(shown)} panels, {count} lines, empty: {empty}")
                if self._images:
                    plot(page, shown, self._images / f"{page.uid}.png")

    async def _all(self, alerts: Sequence[str], status: str, seconds: float) -> None:
        for alert in alerts:
            began = time.monotonic()
            if await holds(partial(self._is, alert, status), seconds):
                told = self._deliveries.alerts[alert]
                summary = told["annotations"]["summary"]
                took = time.monotonic() - began
                tell(f"{alert} {status} after {took:.0f} s at {told['receiver']}: {summary}")
            else:
                self.failures.append(f"{alert} was not {status} within {seconds:g} s")
                tell(f"{alert} was NOT {status}")

    def _is(self, alert: str, status: str) -> bool:
        if status == "firing":
            return alert in self._deliveries.fired
        return self._deliveries.status(alert) == "resolved"


async def watch(site: Site, server: Server, store: Program, pages: Exporters, run: Run) -> None:
    """Apply load, do every fault, look at every panel."""
    async with traffic_on(server) as traffic:
        faults = Faults(site, server, store, pages, traffic)
        steady = asyncio.create_task(asyncio.sleep(_STEADY_SECONDS))
        for fault in faults.all():
            if fault.alerts == ("InferenceAbstentionDrift",):
                await steady
            tell(f"fault: {fault.what}")
            await run.provoke(fault)
        tell(f"answers by status: {dict(sorted(traffic.statuses.items()))}")
        tell(f"series shown by the service: {await asyncio.to_thread(series_of, server)}")
        leaving = faults.leaving()
        tell(f"fault: {leaving.what}")
        await run.provoke(leaving)
    await run.look_at_panels()


def test_every_alert_fires_and_clears_and_every_panel_is_filled() -> None:
    parser = check_options("ops-test", __doc__)
    parser.add_argument("--images", type=Path, help="Folder for a picture of each dashboard.")
    images: Path | None = given(parser).images
    problem = provide(PROGRAMS)
    assert not problem, problem
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        store = stack.enter_context(valkey(folder))
        deliveries = stack.enter_context(webhook())
        site = Site.build(folder, store.url)
        server = stack.enter_context(started_server(folder, site.write([ADAPTER, BROKEN])))
        alerts = stack.enter_context(alertmanager(folder, deliveries.url))
        ops_port = int(server.ops.rpartition(":")[2])
        pages = stack.enter_context(exporters())
        watcher = stack.enter_context(prometheus(folder, ops_port, pages.address, alerts.url))
        tell("the service, Prometheus, Alertmanager and Valkey run")
        run = Run(deliveries, watcher, images)
        asyncio.run(watch(site, server, store, pages, run))
        untried = ALERTS.keys() - deliveries.fired
        run.failures += [f"{alert} never fired" for alert in sorted(untried)]
    tell(f"{len(deliveries.fired)} of {len(ALERTS)} alerts fired")
    assert not run.failures, "\n  ".join(run.failures)


async def holds(condition: Callable[[], bool], seconds: float) -> bool:
    """True if the condition holds before the seconds are over."""
    try:
        await eventually(condition, seconds)
    except TimeoutError:
        return False
    return True


def tell(line: str) -> None:
    """Print a line on the run."""
    print(f"ops: {line}", flush=True)
