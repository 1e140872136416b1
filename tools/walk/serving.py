"""The service over the fake engine in this process, and requests to it on a real socket."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from prometheus_client import CollectorRegistry
from safetensors.numpy import save_file

from service.admission.controller import AdmissionController
from service.app import create_app
from service.engine.contract import ModelInfo
from service.http.server import public_config
from service.models.base_model import read_base_model
from service.runtime.status import Status
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from tools.fake_engine import FakeEngine, FakeModel
from tools.keys import bearer, entry, write_keys
from training.packing import pack

MODEL = "fake"
ADAPTER = "walked"
_TENANT = "reader"
_HIDDEN, _RANK = 64, 8
_LAYER = "model.layers.0.self_attn.q_proj"


class HeldEngine(FakeEngine):
    """The fake engine, which makes no token while it is `held`."""

    held = False

    async def pause(self) -> None:
        """Take the time of one token."""
        while self.held:  # noqa: ASYNC110 - no test waits for it
            await asyncio.sleep(0.01)
        await super().pause()


@dataclass(frozen=True)
class Answer:
    """Status, content type and body of an answer."""

    status: int
    media_type: str
    body: bytes


class Serving:
    """The service while it runs, in the loop of the caller."""

    engine: HeldEngine

    def __init__(self, folder: Path, admission: Mapping[str, int], *, adapted: bool) -> None:
        keys = write_keys(folder / "keys.json", entry(_TENANT))
        base = _write_base(folder / "base")
        adapters = [{"source": str(_write_adapter(folder / ADAPTER, base))}] if adapted else []
        settings = Settings.model_validate(
            {
                "model": ModelSettings(name=MODEL, path=base),
                "tenants": {"keys": keys},
                "admission": admission,
                "adapters": adapters,
                "adapter_cache": {"path": folder / "cache"},
            }
        )
        app = create_app(settings, Status(), CollectorRegistry(), self._start, _no_encoder)
        self._server = uvicorn.Server(public_config(app, settings.http))
        self._socket = socket.create_server(("127.0.0.1", 0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        served = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if served.done():
                raise RuntimeError("the service did not start")
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            self._server.should_exit = True
            await served

    async def ask(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send a request as a tenant with a key; returns once the server has ended it, too."""
        others = set(self._server.server_state.tasks)
        reader, writer = await asyncio.open_connection(*self._socket.getsockname())
        writer.write(_request(path, json.dumps(body).encode()))
        try:
            head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if left := self._server.server_state.tasks - others:
            await asyncio.wait(left)
        lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        return Answer(int(lines[0].split()[1]), fields["content-type"], content)

    async def _start(
        self, settings: Settings, admission: AdmissionController, metrics: Metrics
    ) -> FakeModel:
        admission.capacity = settings.admission.max_in_flight or 4
        model = ModelInfo(MODEL, "sha256:fake", 512, 4, max_lora_rank=_RANK, max_token_chars=1)
        self.engine = HeldEngine(model)
        return FakeModel(self.engine, admission, metrics, settings.preparation)


async def _no_encoder(*_: object) -> Any:
    raise NotImplementedError("no encoder is configured")


def _write_adapter(folder: Path, base: Path) -> Path:
    folder.mkdir()
    named = f"base_model.model.{_LAYER}"
    shapes = {f"{named}.lora_A.weight": (4, _HIDDEN), f"{named}.lora_B.weight": (_HIDDEN, 4)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    config |= {"task_type": "CAUSAL_LM", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    served = read_base_model(base, name=MODEL, max_rank=_RANK)
    pack(folder, served, {"name": ADAPTER, "version": "1.0.0", "task": "generation"})
    return folder


def _write_base(folder: Path) -> Path:
    folder.mkdir()
    tensors = {f"{_LAYER}.weight": np.ones((_HIDDEN, _HIDDEN), np.float16)}
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": _HIDDEN}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    return folder


def _request(path: str, body: bytes) -> bytes:
    fields = {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **bearer(_TENANT),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
