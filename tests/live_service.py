"""The whole service over the fake engine, on real sockets."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

import service.app
from loadtests.processes import PATIENCE_S
from service.admission.controller import AdmissionController
from service.admission.queued_request import Demand
from service.context import internal_context
from service.engine.contract import ModelInfo
from service.engine.pooling import EncoderEngine
from service.generation.served_model import ServedModel
from service.http.ops import create_ops_app
from service.http.server import OpsServer, public_config
from service.routes.documentation import describe
from service.runtime.status import Status
from service.settings.admission import AdmissionSettings, PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from service.tenants.tenant import ANONYMOUS
from tests.fake_encoder import FakeEncoder, start_fake_encoder
from tests.staged_engine import StagedEngine
from tools.fake_engine import FakeModel

T = TypeVar("T")

MODEL = "fake"
MAX_MODEL_LEN = 512
CAPACITY = 4
_UNREFUSED_MS = 600_000
"""The longest wait unless a test sets one: after a stall admission expects waits of seconds."""

_documents: dict[object, dict[str, Any] | None] = {}


def _describe_once(app: FastAPI, settings: Settings, *, with_keys: bool) -> None:
    """Describe an app by the document of one like it, which takes most of the time to make one."""
    names = (settings.model and settings.model.name, *(each.name for each in settings.encoders))
    described = (each for each in app.routes if getattr(each, "include_in_schema", True))
    paths = frozenset(getattr(route, "path", "") for route in described)
    if (key := (paths, names, with_keys)) not in _documents:
        describe(app, settings, with_keys=with_keys)
        _documents[key] = app.openapi_schema
    app.openapi_schema = _documents[key]


service.app.describe = _describe_once  # type: ignore[attr-defined]


class LiveService:
    """Both ports of the service on the loopback, in a thread with a loop of its own.

    `sections` are sections of the settings by name, `model` None for encoders alone; a reload
    reads the present value of `settings`. Every test uses a socket, because an ASGI transport would
    buffer bodies and could not disconnect.
    """

    engine: StagedEngine
    model: FakeModel
    admission: AdmissionController

    def __init__(
        self,
        *,
        token_seconds: float = 0.0,
        model_path: Path = Path("unused"),
        **sections: Any,
    ) -> None:
        model = ModelSettings(name=MODEL, path=model_path)
        admission = AdmissionSettings.model_validate(sections.get("admission", {})).model_dump(
            exclude_unset=True
        )
        sections["admission"] = {"max_wait_ms": _UNREFUSED_MS} | admission
        self.settings = Settings(**({"model": model} | sections))
        self.registry = CollectorRegistry()
        self.status = Status()
        self._token_seconds = token_seconds
        self.encoders: dict[str, FakeEncoder] = {}
        self.app = service.app.create_app(
            self.settings,
            self.status,
            self.registry,
            self.start_engine,
            self.start_encoder,
            lambda: self.settings,
        )
        self._public = _Listener(_PromptServer(public_config(self.app, self.settings.http)))
        self.status.stop = self._public.stop
        ops = create_ops_app(self.status, self.registry, self.settings.http, self.app.state.plugins)
        self._ops = _Listener(_PromptOpsServer(ops))
        self.port, self.url, self.ops_url = self._public.port, self._public.url, self._ops.url
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "LiveService":
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not (self._public.server.started and self._ops.server.started):
            if time.monotonic() > deadline or not self._thread.is_alive():
                self.__exit__()
                raise RuntimeError("the service did not start")
            time.sleep(0.002)
        if self.settings.model is not None:
            self.engine.starts = 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.settings.model is not None:
            self.engine.frozen = False
        self.stop()
        self._thread.join(timeout=PATIENCE_S)

    def stop(self) -> None:
        """Have both servers stop."""
        self._public.server.should_exit = self._ops.server.should_exit = True

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """A client of the public port."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self.url, limits=limits, timeout=PATIENCE_S, trust_env=False
        ) as client:
            yield client

    def hold_every_slot(self) -> Callable[[], None]:
        """Take all slots of the engine, as requests without a key would; returns the release
        function.
        """
        context = internal_context("others", PATIENCE_S)
        context.tenant = ANONYMOUS
        held = self._on_its_loop(
            self.admission.acquire(context, Demand(1, 1, self.admission.capacity))
        )

        async def release() -> None:
            held.release()

        return lambda: self._on_its_loop(release())

    @property
    def thread_name(self) -> str:
        """The thread of its event loop."""
        return self._thread.name

    def outcomes(self) -> Counter[str]:
        """Answered requests by outcome."""
        counts: Counter[str] = Counter()
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "inference_requests_total":
                    counts[sample.labels["outcome"]] += int(sample.value)
        return counts

    def value(self, series: str, **labels: str) -> float:
        """The sum of the series that have these labels, 0 if there is none."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == series and labels.items() <= sample.labels.items()
        )

    @property
    def stopping(self) -> bool:
        """True once the public port takes no more connections, or soon will not."""
        return self._public.server.should_exit

    @property
    def connections(self) -> set[Any]:
        """The connections that the public port holds."""
        return self._public.server.server_state.connections

    def idle(self) -> bool:
        """Wait until no request runs or waits, by admission, gauges and engine."""
        gauges = ("inference_requests_in_flight", "inference_requests_queued")
        controllers = [each.admission for each in self.encoders.values()]
        counts = [each.running for each in self.encoders.values()]
        if self.settings.model is not None:
            controllers.append(self.admission)
            counts.append(self.engine.running)
        counts += [
            count for admission in controllers for count in (admission.in_flight, admission.queued)
        ]
        return not any([*counts, *(self.value(gauge) for gauge in gauges)])

    async def start_engine(
        self, settings: Settings, admission: AdmissionController, metrics: Metrics
    ) -> ServedModel:
        """A staged engine behind admission control, for the composition root."""
        model = ModelInfo(
            settings.base.name,
            "sha256:fake",
            MAX_MODEL_LEN,
            CAPACITY,
            max_lora_rank=8,
            max_token_chars=1,
        )
        self.admission = admission
        self.admission.capacity = settings.admission.max_in_flight or CAPACITY
        self.engine = StagedEngine(model, token_seconds=self._token_seconds)
        self.model = FakeModel(self.engine, admission, metrics, settings.preparation)
        return self.model

    async def start_encoder(
        self,
        encoder: EncoderSettings,
        admission: AdmissionController,
        metrics: Metrics,
        preparation: PreparationSettings,
    ) -> EncoderEngine:
        """A fake encoder behind admission control, for the composition root."""
        started = await start_fake_encoder(encoder, admission, metrics, preparation)
        self.encoders[encoder.name] = started
        return started

    def _on_its_loop(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout=PATIENCE_S)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await asyncio.gather(self._public.serve(), self._ops.serve())

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())


class _PromptServer(uvicorn.Server):
    """Checks often whether it should stop, because uvicorn's 0.1 s for each test adds up."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110 - as uvicorn does
            await asyncio.sleep(0.005)


class _PromptOpsServer(_PromptServer, OpsServer):
    """The same for the admin port."""


class _Listener:
    """One server on a port that the system chose."""

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True

    async def serve(self) -> None:
        await self.server.serve(sockets=[self._socket])
