"""Fixtures: a clean environment, one running service per module, an adapter on disk."""

import logging
import os
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx
import hypothesis
import pytest

from service.model.base_model import ServedBase
from service.settings.tree import ENV_PREFIX
from tests.adapters.samples import AdapterFolder, describe, write_base

pytest.register_assert_rewrite("tests.answers", "tests.engine.contract")

from tests.live_service import LiveService  # noqa: E402 - rewritten modules come after

# A busy machine may stall any example; pytest's timeout ends those that never end.
hypothesis.settings.register_profile("llm-service", deadline=None)
hypothesis.settings.load_profile("llm-service")

_ENGINE_SECONDS = 900
"""Room for the start of an engine on a machine that others use."""


_SERVERS = ("smollm2", "tiny")
"""Servers that tests share: those that ask for one run together, on one worker (xdist's groups)."""


# Before xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests on the real engine first, those on one server together; give them time.

    These tests take the longest; short tests afterwards keep both workers busy to the end. Tests
    that share no server stay with those of their file.
    """

    def group(item: pytest.Item) -> str:
        shared = (name for name in _SERVERS if name in getattr(item, "fixturenames", ()))
        return next(shared, str(item.path))

    def order(item: pytest.Item) -> tuple[bool, int, str]:
        of = group(item)
        rank = _SERVERS.index(of) if of in _SERVERS else len(_SERVERS)
        return "engine" not in item.path.parts, rank, str(item.path)

    items.sort(key=order)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
        if "engine" in item.path.parts:
            item.add_marker(pytest.mark.timeout(_ENGINE_SECONDS))


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
