"""Versions of one adapter, written once."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.proven import best_label, failing, proven, served_base
from tests.adapters.samples import write_base
from tests.plugins.rollouts.stores import Place
from tests.plugins.rollouts.versions import Folders
from tests.tenants.redis_server import RedisServer


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("versions")
    base = write_base(root / "base")

    async def write() -> str:
        served = served_base(base)
        await proven(root / "old", served, version="1.0.0")
        await proven(root / "equal", served, version="1.1.0")
        await proven(root / "other", served, version="1.2.0", seed=1)
        failing(await proven(root / "unproven", served, version="1.3.0", seed=2))
        await proven(root / "same-version", served, version="1.0.0", seed=3)
        for text in map(str, itertools.count()):
            if await best_label(root / "old", text) != await best_label(root / "other", text):
                return text
        raise AssertionError("unreachable")

    return Folders(root, base, asyncio.run(write()))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shared(redis: RedisServer, tmp_path: Path) -> Place:
    """An empty Redis that replicas share."""
    redis.kill()
    redis.start()
    return Place(tmp_path, redis)


@pytest.fixture(params=["folder", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of store, empty."""
    if request.param == "folder":
        return Place(tmp_path, None)
    shared: Place = request.getfixturevalue("shared")
    return shared
