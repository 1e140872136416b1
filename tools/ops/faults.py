"""One fault for each alert: how to cause it, and how to end it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from tools.ops.programs import Program
from tools.ops.site import ADAPTER, BROKEN, TENANTS, Site
from tools.ops.traffic import Traffic
from tools.served.server import Server

Step = Callable[[], Awaitable[None]]

DOWN = "InferenceDown"
FLOODING_CLIENTS = 60


@dataclass(frozen=True)
class Fault:
    """A fault: its cause, the alerts that must fire, and its end."""

    what: str
    alerts: tuple[str, ...]
    begin: Step
    end: Step


class Faults:
    """The faults of one site, in an order in which none hides another."""

    def __init__(self, site: Site, server: Server, store: Program, traffic: Traffic) -> None:
        self._site = site
        self._server = server
        self._store = store
        self._traffic = traffic

    def all(self) -> list[Fault]:
        """Faults that the service survives, then the fault that ends it."""
        return [
            Fault(
                "an adapter whose file is not the one that was packed",
                ("InferenceAdapterQuarantined",),
                _nothing,
                self._serve_the_good_one,
            ),
            Fault(
                "a reload of that adapter, as one that is required",
                ("InferenceAdapterReloadFailed",),
                self._require_the_broken_one,
                self._serve_the_good_one,
            ),
            Fault(
                "requests that miss their objective",
                ("InferenceGoodputBurnFast", "InferenceGoodputBurnSlow"),
                self._switch("impatient", True),
                self._switch("impatient", False),
            ),
            Fault(
                "requests that pass their deadline",
                ("InferenceErrorBurnFast", "InferenceErrorBurnSlow"),
                self._switch("late", True),
                self._switch("late", False),
            ),
            Fault(
                "a quota store that does not answer",
                ("InferenceQuotaStoreDown",),
                self._stop_the_store,
                self._continue_the_store,
            ),
            Fault(
                "a keys file with a mistake in it",
                ("InferenceKeysStale",),
                self._break_the_keys,
                self._mend_the_keys,
            ),
            Fault(
                "inputs that the classifier is not sure of",
                ("InferenceAbstentionDrift",),
                self._switch("doubtful", True),
                self._switch("doubtful", False),
            ),
            Fault(
                "more long requests than can be served",
                ("InferenceQueueGrowing", "InferenceKVCacheFull"),
                self._flood,
                self._traffic.end_flood,
            ),
            Fault(
                "a service that stands still for moments",
                ("InferenceEventLoopStalls",),
                self._stand_still,
                _nothing,
            ),
            Fault(
                "an engine that is stopped",
                ("InferenceEngineStalled",),
                self._stop_the_engine,
                self._continue_the_engine,
            ),
        ]

    def leaving(self) -> Fault:
        """A drain that a stopped engine delays; the service ends with it."""
        return Fault(
            "a drain that waits for an engine which is stopped",
            ("InferenceDrainSlow", DOWN),
            self._drain_without_the_engine,
            _nothing,
        )

    async def _serve_the_good_one(self) -> None:
        self._write([ADAPTER])
        assert await self._reload() == 200
        # A changed keys file is read too; a panel shows that.
        self._site.write_keys([*TENANTS, "new"])

    async def _require_the_broken_one(self) -> None:
        self._write([ADAPTER, BROKEN], required=True)
        assert await self._reload() == 409

    def _write(self, adapters: list[str], *, required: bool = False) -> None:
        self._site.write(adapters, required=required)

    async def _reload(self) -> int:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            return (await http.post(f"{self._server.ops}/adapters/reload")).status_code

    def _switch(self, name: str, on: bool) -> Step:
        async def step() -> None:
            setattr(self._traffic, name, on)

        return step

    async def _stop_the_store(self) -> None:
        self._store.process.send_signal(19)

    async def _continue_the_store(self) -> None:
        self._store.process.send_signal(18)

    async def _break_the_keys(self) -> None:
        self._site.keys.write_text("tenants: [")

    async def _mend_the_keys(self) -> None:
        self._site.write_keys(list(TENANTS))

    async def _flood(self) -> None:
        for _ in range(FLOODING_CLIENTS):
            self._traffic.add_flood()
            await asyncio.sleep(0.15)

    async def _stand_still(self) -> None:
        for _ in range(8):
            self._server.process.send_signal(19)
            await asyncio.sleep(0.5)
            self._server.process.send_signal(18)
            await asyncio.sleep(0.3)

    async def _stop_the_engine(self) -> None:
        self._server.engine().suspend()

    async def _continue_the_engine(self) -> None:
        self._server.engine().resume()

    async def _drain_without_the_engine(self) -> None:
        engine = self._server.engine()
        self._traffic.add_flood()
        await asyncio.sleep(0.2)
        engine.suspend()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            (await http.post(f"{self._server.ops}/drain")).raise_for_status()
        await asyncio.sleep(4.8)
        engine.resume()


async def _nothing() -> None:
    """Do nothing, because the state of the site is the fault or its end."""
