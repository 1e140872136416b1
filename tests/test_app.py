"""The composition root: what starts, in which order, and what a failure leaves."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import PATIENCE_S, wait_until
from service.admission.controller import AdmissionController
from service.app import create_app
from service.errors import ConfigurationError, Interrupted
from service.generation.served_model import ServedModel
from service.http.ops import create_ops_app
from service.http.server import serve
from service.models.base_model import read_base_model
from service.runtime.status import Phase, Status
from service.settings.adapters import AdapterCacheSettings, AdapterSettings
from service.settings.tree import (
    HttpSettings,
    ModelSettings,
    Settings,
)
from service.telemetry.metrics import Metrics
from tests.adapters.samples import AdapterFolder, write_base
from tests.fake_engines import fake_engine
from tests.live_service import LiveService
from tests.staged_engine import StagedModel


def settings(**sections: object) -> Settings:
    model = ModelSettings(name="fake", path=Path("unused"))
    http = HttpSettings(port=0, ops_port=0)
    return Settings.model_validate({"model": model, "http": http} | sections)


def run(configured: Settings, engine: StagedModel | ConfigurationError) -> Status:
    """Serve until the start fails; a test that started would never come back."""
    status, registry = Status(), CollectorRegistry()

    async def start(
        settings: Settings, admission: AdmissionController, metrics: Metrics
    ) -> ServedModel:
        if isinstance(engine, ConfigurationError):
            raise engine
        return engine

    app = create_app(configured, status, registry, start)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert not serve(
            app,
            create_ops_app(status, registry, configured.http),
            status,
            configured.http,
            on_started=lambda: None,
            on_hangup=lambda: None,
        )
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return status


def test_an_engine_that_does_not_start_is_remembered() -> None:
    failure = ConfigurationError("engine: no such model")
    status = run(settings(), failure)
    assert status.failure is failure
    assert status.phase is Phase.STARTING


def test_an_adapter_that_is_missing_ends_the_start_before_the_engine(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapters = (AdapterSettings(name="a", source=str(tmp_path / "gone")),)
    engine, _ = fake_engine()
    model = ModelSettings(name="fake", path=base)
    status = run(settings(model=model, adapters=adapters), engine)
    assert isinstance(status.failure, ConfigurationError)
    assert str(status.failure).startswith("adapter gone: adapter.yaml: cannot be read")
    assert status.phase is Phase.STARTING
    assert not engine.raw.dead


def test_an_adapter_that_the_engine_refuses_ends_the_start_and_the_engine(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    described = read_base_model(base, name="fake", max_rank=8)
    folder = AdapterFolder(tmp_path / "sentiment", described).save().path
    engine, _ = fake_engine(max_lora_rank=0)
    model = ModelSettings(name="fake", path=base)
    cache = AdapterCacheSettings(path=tmp_path / "cache")
    adapters = (AdapterSettings(source=str(folder)),)
    status = run(settings(model=model, adapters=adapters, adapter_cache=cache), engine)
    assert isinstance(status.failure, ConfigurationError)
    assert "without room for them" in str(status.failure)
    assert status.phase is Phase.STARTING
    assert engine.raw.dead


def test_a_warm_up_that_fails_ends_the_start_and_the_engine() -> None:
    engine, _ = fake_engine()
    engine.raw.failure = RuntimeError("broken")
    assert run(settings(), engine).failure is engine.raw.failure
    assert engine.raw.dead


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_waits_for_the_engine(number: signal.Signals) -> None:
    engine, _ = fake_engine()
    engine.raw.frozen = True

    def ask() -> None:
        wait_until(lambda: engine.raw.warm_ups, PATIENCE_S, "a request of warm-up")
        os.kill(os.getpid(), number)

    asking = threading.Thread(target=ask)
    asking.start()
    status = run(settings(), engine)
    asking.join()
    assert isinstance(status.failure, Interrupted)
    assert status.failure.number == number
    assert status.phase is Phase.STARTING
    assert status.interrupt is None
    assert engine.raw.dead


def test_the_engine_is_warm_before_ready() -> None:
    with LiveService() as live:
        assert live.status.phase is Phase.READY
        assert live.engine.warm_ups == 1


@pytest.mark.parametrize("key", ["port", "ops_port"])
def test_a_taken_port_ends_the_start_before_the_engine(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        http = HttpSettings(**({"port": 0, "ops_port": 0} | {key: port}))
        engine, _ = fake_engine()
        with pytest.raises(ConfigurationError, match=rf"http\.{key}: cannot listen on .*:{port}"):
            run(settings(http=http), engine)
    assert not engine.raw.dead


def test_a_host_that_is_none_is_named() -> None:
    http = HttpSettings(host="not a host", port=0, ops_port=0)
    with pytest.raises(ConfigurationError, match=r"http\.port: 'not a host' is no address"):
        run(settings(http=http), fake_engine()[0])
