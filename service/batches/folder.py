"""The folder in which a service keeps files and batches."""

import os
import secrets
import time
from collections.abc import Container
from pathlib import Path

from service.errors import ConfigurationError
from service.files import sync

_UPLOAD = "upload-"
_ORPHAN_SECONDS = 2 * 3600
"""Age from which a file that no record names belongs to no upload or batch that goes on."""
_REMOTE = {"9p", "afs", "ceph", "cifs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
_MOUNTS = Path("/proc/self/mountinfo")


class Folder:
    """Files by their ids, leases, and the database; made where it does not exist.

    Raises ConfigurationError for a folder that cannot be written, and for one in a network's file
    system: locks and the database's shared memory work on one machine only.
    """

    DATABASE = "batches.sqlite3"

    def __init__(self, path: Path) -> None:
        self._files = path / "files"
        self._leases = path / "leases"
        self.database = path / self.DATABASE
        try:
            for folder in (self._files, self._leases):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"batches.path: {path}: {error.strerror}") from error
        if (kind := file_system(path)) in _REMOTE:
            raise ConfigurationError(
                f"batches.path: {path} is in a file system of a network ({kind}), in which neither "
                "locks nor SQLite's log can be relied upon; use a disk of this machine"
            )

    def content(self, file_id: str) -> Path:
        """The place of a file's content."""
        return self._files / file_id

    def lease(self, batch_id: str) -> Path:
        """The file whose lock is the right to run a batch."""
        return self._leases / batch_id

    def new_upload(self) -> Path:
        """A new place for content that is not complete."""
        return self._files / f"{_UPLOAD}{secrets.token_hex(16)}"

    def keep(self, upload: Path, file_id: str) -> None:
        """Make content a file's, on disk."""
        sync(upload)
        upload.replace(self.content(file_id))
        sync(self._files)

    def remove(self, file_id: str) -> None:
        """Remove a file's content, if it is there."""
        self.content(file_id).unlink(missing_ok=True)

    def sweep(self, files: Container[str], batches: Container[str]) -> None:
        """Remove what belongs to none of these files and batches, and is hours old."""
        oldest = time.time() - _ORPHAN_SECONDS
        for folder, known in ((self._files, files), (self._leases, batches)):
            for path in folder.iterdir():
                if path.name not in known and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)


def file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """The type of the file system that holds a path; empty where the system does not tell."""
    if not mounts.exists():
        return ""
    target, best, kind = os.path.realpath(path), "", ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind
