"""Result files of a batch, written from the answers in the database."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from service.batches.folder import Folder
from service.batches.records import Batch, Purpose, StoredFile


def new_file_id() -> str:
    """An id that nobody can guess."""
    return f"file-{secrets.token_hex(16)}"


def write_outcome(
    folder: Folder, batch: Batch, now: int
) -> tuple[StoredFile | None, StoredFile | None]:
    """Write the output file and the error file in the order of the lines; None for an empty file.

    Blocks, so call it in a thread; it has a connection of its own. If the process ends before it
    returns, the files have no record, and `Folder.sweep` removes them.
    """
    address = f"{folder.database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return (
            _write(connection, folder, batch, now, failed=False),
            _write(connection, folder, batch, now, failed=True),
        )


def _write(
    connection: sqlite3.Connection, folder: Folder, batch: Batch, now: int, *, failed: bool
) -> StoredFile | None:
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
    folder.keep(upload, file.id)
    return file


def _copy(rows: sqlite3.Cursor, path: Path) -> int:
    with path.open("xb") as file:
        file.writelines(body for (body,) in rows)
        return file.tell()
