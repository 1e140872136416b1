"""The folder in which a service keeps batches, and their files unless a bucket has these."""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from service.common.files import make_local
from service.errors import ConfigurationError, Unavailable
from service.plugins.batches.bucket import Bucket
from service.plugins.batches.disk import orphans, place
from service.plugins.batches.pointers import FolderPointers, Pointers
from service.plugins.batches.scratch import Scratch

_log = logging.getLogger(__name__)


class Folder:
    """Files by their ids, leases, and the place of the database; makes missing folders.

    With a bucket new files are there, and `pointers`, by default in the folder, lead to each.
    Raises ConfigurationError as `make_local`.
    """

    DATABASE = "batches.sqlite3"

    def __init__(
        self, path: Path, bucket: Bucket | None = None, pointers: Pointers | None = None
    ) -> None:
        self._files = path / "files"
        self._leases = path / "leases"
        self._inputs = path / "inputs"
        uploads = path / "uploads"
        self._bucket = bucket
        self._buckets = {} if bucket is None else {bucket.address: bucket}
        self.database = path / self.DATABASE
        for folder in (path, self._files, self._leases, self._inputs, uploads):
            make_local("batches.path", folder)
        self._scratch = Scratch(uploads)
        self._pointers = pointers or FolderPointers(path / "pointers")

    def content(self, file_id: str) -> Path:
        """The place of a file's content, unless a bucket has it."""
        return self._files / file_id

    def lease(self, batch_id: str) -> Path:
        """The file whose lock is the right to run a batch."""
        return self._leases / batch_id

    def new_upload(self) -> Path:
        """A new place for content that is still being written."""
        return self._scratch.new_place()

    async def keep(self, upload: Path, file_id: str) -> None:
        """Make content a file's: on disk, and from there in the bucket if there is one.

        Raises Unavailable, and leaves the upload, where the bucket does not take it.
        """
        if self._bucket is None:
            await asyncio.to_thread(place, upload, self.content(file_id))
            return
        await self._pointers.point(file_id, self._bucket.address)
        await self._bucket.put(upload, file_id)
        await asyncio.to_thread(upload.unlink, missing_ok=True)

    async def bucket_of(self, file_id: str) -> Bucket | None:
        """The bucket that has a file's content; None if the folder has it.

        It may be another than that of new files, if the setting has changed.
        """
        if (address := await self._pointers.address_of(file_id)) is None:
            return None
        if address not in self._buckets:
            self._buckets[address] = await asyncio.to_thread(Bucket, address)
        return self._buckets[address]

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
            await asyncio.to_thread(place, upload, path)
        return path

    async def forget_input(self, batch_id: str) -> None:
        """Remove what was fetched for a batch."""
        await asyncio.to_thread((self._inputs / batch_id).unlink, missing_ok=True)

    async def remove(self, *file_ids: str) -> None:
        """Remove the content of files without a record, as far as it is there.

        A bucket that fails, or cannot be used any more, is asked once; its pointers stay, and a
        sweep tries again.
        """
        failed = set[str | None]()
        for file_id in file_ids:
            try:
                address = await self._pointers.address_of(file_id)
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
        await self._pointers.forget(file_id)

    async def sweep(self, files: Collection[str], batches: Collection[str]) -> None:
        """Remove what belongs to none of these files and batches and is hours old, and uploads of
        processes that have ended.
        """
        await asyncio.to_thread(self._sweep, files, batches)
        await self.remove(*await self._pointers.orphans(files))

    def _sweep(self, files: Collection[str], batches: Collection[str]) -> None:
        self._scratch.sweep()
        for folder, known in (
            (self._files, files),
            (self._leases, batches),
            (self._inputs, batches),
        ):
            for path in orphans(folder, known):
                path.unlink(missing_ok=True)
