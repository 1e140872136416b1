"""Fixtures: a Redis for the tests of a module, and each place of records."""

from collections.abc import Iterator

import pytest

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
