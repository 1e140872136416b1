"""One fault for each alert: how to cause it, and how to end it."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.ops.exporters import Exporters
from tests.ops.programs import Program
from tests.ops.site import ADAPTER, BROKEN, MODEL, SORTER, TENANTS, Site
from tests.ops.traffic import Traffic, usual_text
from tests.served.server import Server
from tools.keys import bearer, key_of

Step = Callable[[], Awaitable[None]]

DOWN = "InferenceDown"
LEAVER = "leaver"
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

    def __init__(
        self, site: Site, server: Server, store: Program, pages: Exporters, traffic: Traffic
    ) -> None:
        self._site = site
        self._server = server
        self._store = store
        self._pages = pages
        self._traffic = traffic
        self._batch = ""

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
                "a store of quotas, shared counters and releases that does not answer",
                (
                    "InferenceQuotaStoreDown",
                    "InferenceFairnessNotShared",
                    "InferenceReleaseStoreDown",
                ),
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
                "inputs that are longer than those in a classifier's manifest",
                ("InferenceInputDrift",),
                self._count_usual_inputs_and_send_others,
                self._switch("unusual", False),
            ),
            Fault(
                "a release that a person rolls back",
                ("InferenceReleaseStopped",),
                self._roll_back,
                self._plan_no_release,
            ),
            Fault(
                "more long requests than can be served, and short ones that cannot wait for them",
                ("InferenceQueueGrowing", "InferenceKVCacheFull", "InferenceOverShare"),
                self._flood,
                self._end_flood,
            ),
            Fault(
                "pods that find no node, or do not become ready",
                ("InferencePodPending", "InferencePodNotReady", "InferenceReplicasMissing"),
                self._show("short", True),
                self._show("short", False),
            ),
            Fault(
                "a replica that restarts again and again",
                ("InferenceRestarting",),
                self._show("restarting", True),
                self._show("restarting", False),
            ),
            Fault(
                "a replica that refuses its list of adapters, and lacks one of the previous list",
                ("InferenceAdapterListRefused", "InferenceAdaptersBehind"),
                self._show("behind", True),
                self._show("behind", False),
            ),
            Fault(
                "a batch whose tenant has no key any more",
                ("InferenceBatchIdle",),
                self._leave_a_batch,
                self._come_back_to_it,
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
        self._site.write([ADAPTER])
        assert await self._reload() == 200
        # A changed keys file is read too; a panel shows that.
        self._site.write_keys([*TENANTS, "new"])

    async def _require_the_broken_one(self) -> None:
        self._site.write([ADAPTER, BROKEN], required=True)
        assert await self._reload() == 409

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

    async def _count_usual_inputs_and_send_others(self) -> None:
        dice = random.Random(1)
        lines = [json.dumps({"text": usual_text(dice)}) + "\n" for _ in range(400)]
        file = self._site.folder / "usual.jsonl"
        file.write_text("".join(lines))
        program = [sys.executable, "-m", "service.cli.main", "calibrate-drift"]
        options = ["--lines", str(file), "--url", self._server.url]
        counting = await asyncio.create_subprocess_exec(
            *program,
            str(self._site.folder / SORTER),
            *options,
            env=os.environ | {"OPENAI_API_KEY": key_of("gold")},
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await counting.wait() == 0
        assert await self._reload() == 200
        self._traffic.unusual = True

    async def _roll_back(self) -> None:
        order = {"action": "rollback", "by": "ops-test"}
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            answer = await http.post(f"{self._server.ops}/releases/{ADAPTER}", json=order)
        answer.raise_for_status()

    async def _plan_no_release(self) -> None:
        self._site.write([ADAPTER], released=False)
        assert await self._reload() == 200

    async def _leave_a_batch(self) -> None:
        self._site.write_keys([*TENANTS, LEAVER])
        body = {"model": MODEL, "prompt": "Hello", "max_tokens": 256, "ignore_eos": True}
        line = {"custom_id": "", "method": "POST", "url": "/v1/completions", "body": body}
        lines = "".join(json.dumps(line | {"custom_id": str(n)}) + "\n" for n in range(1000))
        async with self._leaver() as http:
            await _eventually_ok(lambda: http.get("/v1/batches"))
            form: dict[str, Any] = {"files": {"file": lines}, "data": {"purpose": "batch"}}
            file = (await http.post("/v1/files", **form)).raise_for_status().json()["id"]
            asked = {"input_file_id": file, "endpoint": line["url"], "completion_window": "1h"}
            made = (await http.post("/v1/batches", json=asked)).raise_for_status()
            self._batch = str(made.json()["id"])
        self._site.write_keys(list(TENANTS))

    async def _come_back_to_it(self) -> None:
        self._site.write_keys([*TENANTS, LEAVER])
        async with self._leaver() as http:
            await _eventually_ok(lambda: http.post(f"/v1/batches/{self._batch}/cancel"))

    def _leaver(self) -> httpx.AsyncClient:
        headers = bearer(LEAVER)
        url = self._server.url
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)

    def _show(self, name: str, on: bool) -> Step:
        async def step() -> None:
            setattr(self._pages, name, on)

        return step

    async def _end_flood(self) -> None:
        self._traffic.hurried = False
        await self._traffic.end_flood()

    async def _flood(self) -> None:
        self._traffic.hurried = True
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


async def _eventually_ok(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    """Ask until the answer is no error, for at most 30 seconds."""
    async with asyncio.timeout(30):
        while True:
            if (await ask()).is_success:
                return
            await asyncio.sleep(0.2)


async def _nothing() -> None:
    """Do nothing, because the state of the site is the fault or its end."""
