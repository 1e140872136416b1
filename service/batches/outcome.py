"""Result files of a batch, written from the answers in the database."""

import asyncio
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from service.batches.folder import Folder
from service.batches.records import Batch, Purpose, StoredFile


def new_file_id() -> str:
    """An id that nobody can guess."""
    return f"file-{secrets.token_hex(16)}"


class _Written(NamedTuple):
    """A file that is complete, and the place of its content until it is kept."""

    file: StoredFile
    upload: Path


async def keep_outcome(
    folder: Folder, batch: Batch, now: int
) -> tuple[StoredFile | None, StoredFile | None]:
    """Write and keep the output file and the error file, each in its lines' order; None for an
    empty one.

    Files of an attempt that was cut short have no record, and are swept. Raises as `Folder.keep`.
    """
    output, errors = written = await asyncio.to_thread(_write_outcome, folder, batch, now)
    complete = [each for each in written if each is not None]
    try:
        for file, upload in complete:
            await folder.keep(upload, file.id)
    finally:
        for _, upload in complete:
            await asyncio.to_thread(upload.unlink, missing_ok=True)
    return output and output.file, errors and errors.file


def _write_outcome(folder: Folder, batch: Batch, now: int) -> tuple[_Written | None, ...]:
    """Write both files; blocks, and reads beside the store's own thread."""
    address = f"{folder.database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return (
            _write(connection, folder, batch, now, failed=False),
            _write(connection, folder, batch, now, failed=True),
        )


def _write(
    connection: sqlite3.Connection, folder: Folder, batch: Batch, now: int, *, failed: bool
) -> _Written | None:
    rows = connection.execute(
        "SELECT body FROM answers WHERE batch = ? AND failed = ? ORDER BY line", (batch.id, failed)
    )
    upload = folder.new_upload()
    try:
        size = _copy(rows, upload)
    except BaseException:
        # On a full disk each attempt would otherwise leave a part of a file.
        upload.unlink(missing_ok=True)
        raise
    if not size:
        upload.unlink()
        return None
    file = StoredFile(
        id=new_file_id(),
        tenant=batch.tenant,
        name=f"{batch.id}_{'error' if failed else 'output'}.jsonl",
        purpose=Purpose.OUTPUT,
        bytes=size,
        created_at=now,
        expires_at=now + batch.keep_seconds,
    )
    return _Written(file, upload)


def _copy(rows: sqlite3.Cursor, path: Path) -> int:
    with path.open("xb") as file:
        file.writelines(body for (body,) in rows)
        return file.tell()
