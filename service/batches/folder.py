"""The folder in which a service keeps batches, and their files unless a bucket has these."""

import asyncio
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from service.batches.bucket import Bucket
from service.errors import Unavailable
from service.files import sync
from service.local_disk import make_local

_UPLOAD = "upload-"
_ORPHAN_SECONDS = 2 * 3600
"""Age after which a file without a record is no longer part of an upload or a running batch."""


class Folder:
    """Files by their ids, leases, and the place of the database; makes missing folders.

    With a bucket new files are there, and the folder has a pointer to each, which is on disk
    before the file leaves. Raises ConfigurationError as `make_local`.
    """

    DATABASE = "batches.sqlite3"

    def __init__(self, path: Path, bucket: Bucket | None = None) -> None:
        self._files = path / "files"
        self._leases = path / "leases"
        self._pointers = path / "pointers"
        self._inputs = path / "inputs"
        self._bucket = bucket
        self._buckets = {} if bucket is None else {bucket.address: bucket}
        self.database = path / self.DATABASE
        for folder in (path, self._files, self._leases, self._pointers, self._inputs):
            make_local("batches.path", folder)

    def content(self, file_id: str) -> Path:
        """The place of a file's content, unless a bucket has it."""
        return self._files / file_id

    def lease(self, batch_id: str) -> Path:
        """The file whose lock is the right to run a batch."""
        return self._leases / batch_id

    def new_upload(self) -> Path:
        """A new place for content that is still being written."""
        return self._files / f"{_UPLOAD}{secrets.token_hex(16)}"

    async def keep(self, upload: Path, file_id: str) -> None:
        """Make content a file's: on disk, and from there in the bucket if there is one.

        Raises Unavailable, and leaves the upload, where the bucket does not take it.
        """
        if self._bucket is None:
            await asyncio.to_thread(_place, upload, self.content(file_id))
            return
        await asyncio.to_thread(self._point, file_id, self._bucket.address)
        await self._bucket.put(upload, file_id)
        await asyncio.to_thread(upload.unlink, missing_ok=True)

    async def bucket_of(self, file_id: str) -> Bucket | None:
        """The bucket that has a file's content; None if the folder has it.

        It may be another than that of new files, if the setting has changed.
        """
        return await asyncio.to_thread(self._bucket_of, file_id)

    async def input_of(self, batch_id: str, file_id: str) -> Path:
        """The place of the content that a batch reads; fetched from a bucket where it is there.

        For the holder of the batch's lease. Raises Unavailable where the bucket fails.
        """
        if (bucket := await self.bucket_of(file_id)) is None:
            return self.content(file_id)
        path = self._inputs / batch_id
        if not await asyncio.to_thread(path.exists):
            upload = self.new_upload()
            await bucket.fetch(file_id, upload)
            await asyncio.to_thread(_place, upload, path)
        return path

    async def forget_input(self, batch_id: str) -> None:
        """Remove what was fetched for a batch."""
        await asyncio.to_thread((self._inputs / batch_id).unlink, missing_ok=True)

    async def remove(self, *file_ids: str) -> None:
        """Remove the content of files without a record, as far as it is there.

        Where a bucket fails now, the pointers stay, and a sweep tries again.
        """
        try:
            for file_id in file_ids:
                if (bucket := await self.bucket_of(file_id)) is not None:
                    await bucket.remove(file_id)
                for path in (self.content(file_id), self._pointers / file_id):
                    await asyncio.to_thread(path.unlink, missing_ok=True)
        except Unavailable:
            return

    async def sweep(self, files: Collection[str], batches: Collection[str]) -> None:
        """Remove what belongs to none of these files and batches, and is hours old."""
        lost = await asyncio.to_thread(self._sweep, files, batches)
        await self.remove(*lost)

    def _sweep(self, files: Collection[str], batches: Collection[str]) -> list[str]:
        """Remove what the folder has; returns the files of which it has pointers."""
        for folder, known in (
            (self._files, files),
            (self._leases, batches),
            (self._inputs, batches),
        ):
            for path in _orphans(folder, known):
                path.unlink(missing_ok=True)
        return [path.name for path in _orphans(self._pointers, files)]

    def _point(self, file_id: str, address: str) -> None:
        pointer = self.new_upload()
        pointer.write_text(address, encoding="utf-8")
        _place(pointer, self._pointers / file_id)

    def _bucket_of(self, file_id: str) -> Bucket | None:
        try:
            address = (self._pointers / file_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if address not in self._buckets:
            self._buckets[address] = Bucket(address)
        return self._buckets[address]


def _place(upload: Path, path: Path) -> None:
    """Move a complete file to its place, on disk."""
    sync(upload)
    upload.replace(path)
    sync(path.parent)


def _orphans(folder: Path, known: Collection[str]) -> list[Path]:
    oldest = time.time() - _ORPHAN_SECONDS
    paths = [path for path in folder.iterdir() if path.name not in known]
    return [path for path in paths if path.stat().st_mtime < oldest]
