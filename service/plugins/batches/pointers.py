"""Pointers to the files that a bucket has: their interface, and pointers in a folder."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from service.common.files import make_local
from service.plugins.batches.disk import is_new, new_place, orphans, place


class Pointers(Protocol):
    """Addresses of buckets by the ids of files; a pointer is kept before its file leaves."""

    async def point(self, file_id: str, address: str) -> None:
        """Keep the address of the bucket that will have a file."""

    async def address_of(self, file_id: str) -> str | None:
        """The address of the bucket that has a file; None if none does."""

    async def forget(self, file_id: str) -> None:
        """Remove a pointer, if it is there."""

    async def orphans(self, known: Collection[str]) -> list[str]:
        """Files that are none of these, whose pointers are hours old."""


class FolderPointers:
    """A small file for each pointer, which is on disk when `point` returns."""

    def __init__(self, folder: Path) -> None:
        make_local("batches.path", folder)
        self._folder = folder

    async def point(self, file_id: str, address: str) -> None:
        await asyncio.to_thread(self._point, file_id, address)

    def _point(self, file_id: str, address: str) -> None:
        pointer = new_place(self._folder)
        pointer.write_text(address, encoding="utf-8")
        place(pointer, self._folder / file_id)

    async def address_of(self, file_id: str) -> str | None:
        return await asyncio.to_thread(self._address_of, file_id)

    def _address_of(self, file_id: str) -> str | None:
        try:
            return (self._folder / file_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    async def forget(self, file_id: str) -> None:
        await asyncio.to_thread((self._folder / file_id).unlink, missing_ok=True)

    async def orphans(self, known: Collection[str]) -> list[str]:
        return await asyncio.to_thread(self._orphans, known)

    def _orphans(self, known: Collection[str]) -> list[str]:
        found = orphans(self._folder, known)
        for path in found:
            if is_new(path):  # of a process that was killed before it had written the address
                path.unlink(missing_ok=True)
        return [path.name for path in found if not is_new(path)]
