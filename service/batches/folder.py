"""The folder in which a service keeps files and batches."""

import secrets
import time
from collections.abc import Container
from pathlib import Path

from service.files import sync
from service.local_disk import make_local

_UPLOAD = "upload-"
_ORPHAN_SECONDS = 2 * 3600
"""Age after which a file without a record is no longer part of an upload or a running batch."""


class Folder:
    """Files by their ids, leases, and the place of the database; makes missing folders.

    Raises ConfigurationError as `make_local`.
    """

    DATABASE = "batches.sqlite3"

    def __init__(self, path: Path) -> None:
        self._files = path / "files"
        self._leases = path / "leases"
        self.database = path / self.DATABASE
        for folder in (path, self._files, self._leases):
            make_local("batches.path", folder)

    def content(self, file_id: str) -> Path:
        """The place of a file's content."""
        return self._files / file_id

    def lease(self, batch_id: str) -> Path:
        """The file whose lock is the right to run a batch."""
        return self._leases / batch_id

    def new_upload(self) -> Path:
        """A new place for content that is still being written."""
        return self._files / f"{_UPLOAD}{secrets.token_hex(16)}"

    def keep(self, upload: Path, file_id: str) -> None:
        """Move complete content to its file's place, and flush both to disk."""
        sync(upload)
        upload.replace(self.content(file_id))
        sync(self._files)

    def remove(self, file_id: str) -> None:
        """Remove a file's content, if it is there."""
        self.content(file_id).unlink(missing_ok=True)

    def sweep(self, files: Container[str], batches: Container[str]) -> None:
        """Remove files and leases of none of these files and batches that are two hours old."""
        oldest = time.time() - _ORPHAN_SECONDS
        for folder, known in ((self._files, files), (self._leases, batches)):
            for path in folder.iterdir():
                if path.name not in known and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
