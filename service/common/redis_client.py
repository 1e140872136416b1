"""Clients of Redis, or of Valkey (the same protocol), for an address in the settings."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import limits.errors
from limits.aio.storage import RedisStorage
from limits.storage import storage_from_string

from service.errors import ConfigurationError, Unavailable

ANSWER_SECONDS = 2.0
_RETRY_SECONDS = 5.0
KEY_PREFIX = "llm-service"
"""Beginning of every key that the service writes."""


def open_redis(address: str, setting: str, **options: float) -> RedisStorage:
    """The counters in a Redis, without connecting; `options` are arguments of redis-py's client.

    Raises ConfigurationError, which names the setting and not the address, for an invalid one.
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.replace("valkeys", "rediss").replace("valkey", "redis")
    try:
        storage = storage_from_string(
            f"async+{scheme}://{rest}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=KEY_PREFIX,
            **options,
        )
    except (ValueError, limits.errors.ConfigurationError) as error:
        raise ConfigurationError(
            f"{setting}: cannot be used as an address ({type(error).__name__}); expected "
            "redis://HOST:PORT/DATABASE, or one with valkey, rediss, redis+cluster or "
            "redis+sentinel in place of redis"
        ) from None
    assert isinstance(storage, RedisStorage)
    return storage


def client_of(storage: RedisStorage) -> Any:
    """The client of redis-py that the counters use: of one server, a cluster or a sentinel."""
    bridge: Any = storage.bridge  # whose base class does not declare it
    return bridge.get_connection()


def connect(address: str, setting: str) -> Any:
    """A client of a store, which waits two seconds for an answer; raises as `open_redis`.

    It does not connect before the first command.
    """
    waits = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    return client_of(open_redis(address, setting, **waits))


@contextmanager
def report_unreachable(what: str) -> Iterator[None]:
    """Raise Unavailable if the store of `what` cannot be reached in this block.

    The original error's text may hold the store's address, and is not shown.
    """
    # Where no such store is set, nothing imports redis-py, which imports OpenTelemetry.
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"The store of {what} cannot be reached now ({type(error).__name__}).",
            code="store_unavailable",
            retry_after=_RETRY_SECONDS,
        ) from error


class ScriptStore:
    """Lua scripts and commands at an address, whose keys begin with `root`.

    Does not connect before the first call. Calls raise Unavailable, which names `what` is stored,
    while the store cannot be reached. Raises ConfigurationError for an invalid address.
    """

    def __init__(self, address: str, setting: str, root: str, what: str) -> None:
        self._client = connect(address, setting)
        self._commands = set[asyncio.Task[Any]]()
        self._root = root
        self._what = what

    async def run(self, script: str, *arguments: str | int | bytes) -> Any:
        """Run a script with the root as KEYS[1] and these arguments; returns its answer.

        redis-py runs it again if no answer came, so a second run must change nothing.
        """
        return await self.ask(lambda client: client.eval(script, 1, self._root, *arguments))

    async def ask(self, command: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """Send a command by redis-py's client; returns its answer.

        The command is finished in a task of its own if the caller is cancelled: redis-py waits with
        `asyncio.wait_for`, which may swallow a cancellation before Python 3.12.
        """
        task = asyncio.create_task(command(self._client))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        with report_unreachable(self._what):
            return await asyncio.shield(task)

    async def close(self) -> None:
        """Finish pending commands, and close the connections."""
        await asyncio.gather(*self._commands, return_exceptions=True)
        await self._client.aclose()
