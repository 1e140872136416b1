"""Contents of files: in a folder of this machine, or in an object store through fsspec."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from service.common.files import make_local
from service.errors import ConfigurationError, Unavailable
from service.plugins.batches.disk import Scratch, put_in_place, remove_old
from service.plugins.batches.store import Store
from service.sources.reference import FileRefused
from service.sources.source import parse_source

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

PROTOCOLS = ("s3", "gs", "az")
_BLOCK_BYTES = 8 << 20
"""Bytes of a transfer to or from a bucket that are in memory; S3 takes no parts below 5 MiB."""
_SENT_BYTES = 1 << 20
"""Bytes of a file that are in memory for each client that downloads it."""
_AT_ONCE = 8
_RETRY_SECONDS = 30.0


class _Refused(FileRefused):
    kind = "batches.files"


class Bucket:
    """Files in an object store, below an address `s3://`, `gs://` or `az://`.

    Each file is written once. Methods run in the bucket's own threads, so a store that does not
    answer blocks nothing else. They raise Unavailable if the store fails, and log the reason. The
    constructor raises ConfigurationError for an invalid address, and if the protocol's client is
    not installed.
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
        """Upload a local file; when this returns, the store has all of it."""
        await self._run(name, partial(self._put, path, name))

    async def fetch(self, name: str, path: Path) -> None:
        """Download a file to a new local path; nothing is left there after a failure."""
        await self._run(name, partial(self._fetch, name, path))

    async def blocks(self, name: str, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the content of a file block by block; `size` is the file's length in bytes."""
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


class Folder:
    """Contents of files by their ids, below a folder; makes missing folders.

    With a bucket, contents of new files are stored there, and `store` has the address of each.
    Raises ConfigurationError as `make_local`.
    """

    def __init__(self, path: Path, store: Store, bucket: Bucket | None = None) -> None:
        self._files = path / "files"
        self._inputs = path / "inputs"
        uploads = path / "uploads"
        for folder in (path, self._files, self._inputs, uploads):
            make_local("batches.path", folder)
        self._scratch = Scratch(uploads)
        self._store = store
        self._bucket = bucket
        self._buckets = {} if bucket is None else {bucket.address: bucket}

    def content(self, file_id: str) -> Path:
        """Path of a file's content, unless a bucket has the content."""
        return self._files / file_id

    def new_upload(self) -> Path:
        """A new path for content that is still being written."""
        return self._scratch.new_place()

    async def keep(self, upload: Path, file_id: str) -> None:
        """Move an upload to where contents are stored: the bucket if there is one, else the folder.

        If the bucket fails, raises Unavailable and leaves the upload.
        """
        if self._bucket is None:
            await asyncio.to_thread(put_in_place, upload, self.content(file_id))
            return
        await self._store.keep_address(file_id, self._bucket.address)
        await self._bucket.put(upload, file_id)
        await asyncio.to_thread(upload.unlink, missing_ok=True)

    async def bucket_of(self, file_id: str) -> Bucket | None:
        """The bucket that has a file's content; None if the folder has it.

        It may differ from the bucket of new files, if the setting has changed.
        """
        if (address := await self._store.address_of(file_id)) is None:
            return None
        if address not in self._buckets:
            self._buckets[address] = await asyncio.to_thread(Bucket, address)
        return self._buckets[address]

    async def input_of(self, batch_id: str, file_id: str) -> Path:
        """Local path of a batch's input, after a download if it is in a bucket.

        May be called only by the holder of the batch's lease. Raises Unavailable if the bucket
        fails.
        """
        if (bucket := await self.bucket_of(file_id)) is None:
            return self.content(file_id)
        path = self._inputs / batch_id
        if not await asyncio.to_thread(path.exists):
            upload = self.new_upload()
            await bucket.fetch(file_id, upload)
            await asyncio.to_thread(put_in_place, upload, path)
        return path

    async def forget_input(self, batch_id: str) -> None:
        """Remove the copy of a batch's input."""
        await asyncio.to_thread((self._inputs / batch_id).unlink, missing_ok=True)

    async def remove(self, *file_ids: str) -> None:
        """Remove the contents of files whose records were removed.

        If a bucket fails, its other files are skipped; their addresses are kept, so that a later
        sweep tries again.
        """
        failed = set[str | None]()
        for file_id in file_ids:
            try:
                address = await self._store.address_of(file_id)
            except Unavailable:
                return
            if address in failed:
                continue
            try:
                await self._remove(file_id)
            except Unavailable:  # the log says why
                failed.add(address)
            except ConfigurationError as error:
                failed.add(address)
                _log.error("files of batches are not removed: %s", error)

    async def _remove(self, file_id: str) -> None:
        if (bucket := await self.bucket_of(file_id)) is not None:
            await bucket.remove(file_id)
        await asyncio.to_thread(self.content(file_id).unlink, missing_ok=True)
        await self._store.forget_address(file_id)

    async def sweep(self, files: Collection[str], batches: Collection[str]) -> None:
        """Remove hours-old contents that belong to no record, and uploads of ended processes."""
        await asyncio.to_thread(self._sweep, files, batches)
        await self.remove(*await self._store.list_orphans(files))

    def _sweep(self, files: Collection[str], batches: Collection[str]) -> None:
        self._scratch.sweep()
        remove_old(self._files, files)
        remove_old(self._inputs, batches)
