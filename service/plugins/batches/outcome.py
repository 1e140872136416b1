"""Result files of a batch, written from the answers in its journal."""

import asyncio
import secrets
from pathlib import Path

from service.plugins.batches.folder import Folder
from service.plugins.batches.records import Batch, Purpose, StoredFile
from service.plugins.batches.store import Journal


def new_file_id() -> str:
    """An id that nobody can guess."""
    return f"file-{secrets.token_hex(16)}"


async def keep_outcome(
    folder: Folder, journal: Journal, batch: Batch, now: int
) -> tuple[StoredFile | None, StoredFile | None]:
    """Write and keep the output file and the error file, each in its lines' order; None for an
    empty one.

    Files of an attempt that was cut short have no record, and are swept. Raises as `Folder.keep`.
    """
    output, errors = folder.new_upload(), folder.new_upload()
    try:
        await journal.write(output, errors)
        return (
            await _keep(folder, output, batch, "output", now),
            await _keep(folder, errors, batch, "error", now),
        )
    finally:
        # On a full disk each attempt would otherwise leave a part of a file.
        for upload in (output, errors):
            await asyncio.to_thread(upload.unlink, missing_ok=True)


async def _keep(
    folder: Folder, upload: Path, batch: Batch, kind: str, now: int
) -> StoredFile | None:
    """The record of a file whose content is kept; None for an empty one."""
    if not (size := (await asyncio.to_thread(upload.stat)).st_size):
        return None
    file = StoredFile(
        id=new_file_id(),
        tenant=batch.tenant,
        name=f"{batch.id}_{kind}.jsonl",
        purpose=Purpose.OUTPUT,
        bytes=size,
        created_at=now,
        expires_at=now + batch.keep_seconds,
    )
    await folder.keep(upload, file.id)
    return file
