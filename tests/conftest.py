"""Fixtures: a clean environment, one running service per module, an adapter on disk."""

import gc
import inspect
import logging
import os
import re
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

from loadtests.processes import PATIENCE_S
from service.models.base_model import ServedBase
from service.settings.names import ENV_PREFIX
from tests.adapters.samples import AdapterFolder, describe, write_base

pytest.register_assert_rewrite("tests.answers", "tests.engine.contract")

from tests.live_service import LiveService  # noqa: E402 - rewritten modules come after
from tests.shared_servers import ServerScheduling, running_order  # noqa: E402

# A busy machine may stall any example, and the making of one; pytest's timeout ends those that
# never end.
_UNHURRIED = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("llm-service", deadline=None, suppress_health_check=_UNHURRIED)
hypothesis.settings.load_profile("llm-service")

# A mutant needs any counterexample, not the smallest, and the same verdict each time.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    suppress_health_check=_UNHURRIED,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)

# For the same reason no client gives up after httpx's five seconds, except one that says so.
for part in ("connect", "read", "write", "pool"):
    setattr(inspect.signature(httpx.get).parameters["timeout"].default, part, PATIENCE_S)

_ENGINE_SECONDS = 1800
"""Room for the start of an engine on a machine that others use."""


LONG_CHECKS = {
    *("canaries", "clients", "cluster", "dashboards", "faults", "fleet", "fuzz", "gpu", "image"),
    *("kills", "neighbours", "ops", "pictures", "plugins", "schemas", "simulation", "soak"),
}
"""Markers of tests that take minutes to hours; one runs where `-m` names its marker."""


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker cores of its own: engines on the same cores wait for each other's threads.

    Two services at once on two cores were ready after 65 s in place of 131, with a quarter less
    CPU time. A worker for which none is left has all of them, and runs no engine.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        place = int(worker["workerid"].removeprefix("gw"))
        os.sched_setaffinity(0, cores[place :: worker["workercount"]] or cores)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ServerScheduling:
    """Keep the tests that share a server on one worker."""
    return ServerScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long checks; put the tests on the real engine first, and give them time."""
    asked = set(re.findall(r"\w+", config.option.markexpr))
    long = [
        item
        for item in items
        if any(mark.name in LONG_CHECKS - asked for mark in item.iter_markers())
    ]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
    items.sort(key=running_order)
    for item in items:
        if "engine" in item.path.parts:
            item.add_marker(pytest.mark.timeout(_ENGINE_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what the modules of tests import, which lives to the end.

    With vLLM and torch among that, each of its full collections took half a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Generator[None, None, None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Generator[None, None, None]:
    """Undo what a command that ran in this process set: it logs to an output that is closed."""
    handlers, level = [*logging.root.handlers], logging.root.level
    yield
    os.environ.pop("VLLM_LOGGING_CONFIG_PATH", None)
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.fixture(scope="module")
def service() -> Generator[LiveService, None, None]:
    """A service with default settings, for tests that leave nothing behind."""
    with LiveService() as live:
        yield live


@pytest.fixture
async def client(service: LiveService) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of that service."""
    async with service.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> ServedBase:
    return describe(base_folder)


@pytest.fixture
def adapter(tmp_path: Path, base: ServedBase) -> AdapterFolder:
    return AdapterFolder(tmp_path / "sentiment-folder", base)
