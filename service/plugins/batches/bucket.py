"""Files of batches in an object store, which fsspec's clients read and write."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from service.errors import ConfigurationError, Unavailable
from service.sources.reference import FileRefused
from service.sources.source import parse_source

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

PROTOCOLS = ("s3", "gs", "az")
_BLOCK_BYTES = 8 << 20
"""Bytes of a file that are in memory at once; S3 takes no parts below 5 MiB."""
_SENT_BYTES = 1 << 20
"""The same for each client that a file is sent to."""
_AT_ONCE = 8
_RETRY_SECONDS = 30.0


class _Refused(FileRefused):
    kind = "batches.files"


class Bucket:
    """Files below an address, `s3://`, `gs://` or `az://`; each is written once.

    A store that does not answer holds threads of the bucket only. What is asked of it raises
    Unavailable while it fails, and the log says why. Raises ConfigurationError for an address that
    is none, and where the client of its protocol is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._source = parse_source(address, _Refused)
        if self._source.protocol not in PROTOCOLS:
            known = ", ".join(f"{protocol}://" for protocol in PROTOCOLS)
            raise ConfigurationError(f"batches.files: expected one of {known}, got {address[:200]}")
        self._source.require_client()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batch-files")

    async def put(self, path: Path, name: str) -> None:
        """Write a file of this machine; it is there, and whole, when this returns."""
        await self._run(name, partial(self._put, path, name))

    async def fetch(self, name: str, path: Path) -> None:
        """Write a file of the store to a new place of this machine, of which nothing is left if
        that fails.
        """
        await self._run(name, partial(self._fetch, name, path))

    async def blocks(self, name: str, size: int) -> AsyncGenerator[bytes, None]:
        """The content of a file of so many bytes, in parts."""
        for start in range(0, size, _SENT_BYTES):
            end = min(start + _SENT_BYTES, size)
            yield await self._run(name, partial(self._part, name, start, end))

    async def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        await self._run(name, partial(self._source.remove, name))

    def _put(self, path: Path, name: str) -> None:
        self._source.put(path, name, _BLOCK_BYTES)
        size, found = path.stat().st_size, self._source.look(name)
        if found is None or found.size != size:
            raise OSError(f"{size} bytes were written, and it has {found and found.size}")

    def _fetch(self, name: str, path: Path) -> None:
        found = self._source.look(name)
        if found is None or found.size is None:
            raise FileNotFoundError(name)
        try:
            with path.open("xb") as file:
                for start in range(0, found.size, _BLOCK_BYTES):
                    end = min(start + _BLOCK_BYTES, found.size)
                    file.write(self._part(name, start, end))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _part(self, name: str, start: int, end: int) -> bytes:
        part = self._source.part(name, start, end)
        if len(part) != end - start:
            raise OSError(f"bytes {start} to {end} were asked for, and {len(part)} came")
        return part

    async def _run(self, name: str, work: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except Exception as error:  # each client has exceptions of its own
            _log.error("files of batches: %s", self._source.explain(name, error))
            raise Unavailable(
                "The store of files cannot be read or written now.",
                code="store_unavailable",
                retry_after=_RETRY_SECONDS,
            ) from error
