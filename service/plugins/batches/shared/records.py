"""Connection to the shared records, which every part of this package reads and writes by."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from service.common.redis_client import KEY_PREFIX, connect, reached
from service.plugins.batches.records import Batch, StoredFile
from service.plugins.batches.shared.fields import batch_of, file_of

Record = TypeVar("Record", StoredFile, Batch)

ROOT = f"{KEY_PREFIX}/{{batches}}/"
"""Beginning of every key; the braces keep them on one node of a cluster."""

_READ_AT_ONCE = 64
"""Records that are read at once: redis-py parses an answer without a pause, some us an element."""


class SharedRecords:
    """Records at an address of `batches.storage`; its calls raise Unavailable without an answer.

    Does not connect before the first call. Raises ConfigurationError for an invalid address.
    """

    def __init__(self, address: str) -> None:
        self._client = connect(address, "batches.storage")
        self._asked = set[asyncio.Task[Any]]()

    async def run(self, script: str, *arguments: str | int | bytes) -> Any:
        """The answer of a script to these arguments."""
        return await self.ask(lambda client: client.eval(script, 1, ROOT, *arguments))

    async def ask(self, command: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """The answer of a command that redis-py's client sends.

        The command is finished in a task of its own if the caller is cancelled: redis-py waits
        with `asyncio.wait_for`, which may swallow a cancellation before Python 3.12.
        """
        task = asyncio.create_task(command(self._client))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        with reached("batches"):
            return await asyncio.shield(task)

    async def files(self, ids: Iterable[bytes | str]) -> list[StoredFile]:
        """The files of these ids, without those that are gone."""
        return await self._read("file", ids, file_of)

    async def batches(self, ids: Iterable[bytes | str]) -> list[Batch]:
        """The batches of these ids, without those that are gone."""
        return await self._read("batch", ids, batch_of)

    async def _read(
        self, kind: str, ids: Iterable[bytes | str], of: Callable[[Mapping[bytes, bytes]], Record]
    ) -> list[Record]:
        keys = [
            f"{ROOT}{kind}/{each.decode() if isinstance(each, bytes) else each}" for each in ids
        ]
        found: list[Record] = []
        for start in range(0, len(keys), _READ_AT_ONCE):
            hashes = await self.ask(partial(_hashes, keys[start : start + _READ_AT_ONCE]))
            found += [of(fields) for fields in hashes if fields]
        return found

    async def close(self) -> None:
        """Finish what was begun, and close the connections."""
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self._client.aclose()


async def _hashes(keys: Iterable[str], client: Any) -> list[Mapping[bytes, bytes]]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    found: list[Mapping[bytes, bytes]] = await pipeline.execute()
    return found


def paired(flat: list[bytes]) -> dict[bytes, bytes]:
    """The fields of a hash that a script returned."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
