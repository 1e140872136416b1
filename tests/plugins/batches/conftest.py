"""Fixtures: a Redis for the tests of a module, each place of records, and a store of files."""

from collections.abc import Iterator

import pytest

from tests.sources.servers import S3, s3_server
from tests.tenants.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["folder", "redis"])
def storage(request: pytest.FixtureRequest, redis: RedisServer) -> str | None:
    """The address of the records, which are none yet; None for those of a folder."""
    if request.param == "folder":
        return None
    redis.kill()
    redis.start()
    return redis.url


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A store in which a batch that failed is tried again at once."""
    monkeypatch.setattr("service.plugins.batches.runner.AFTER_FAILURE_SECONDS", 0.1)
    with s3_server(monkeypatch) as server:
        yield server
