"""Folders that must lie on a disk of this machine."""

import os
from pathlib import Path

from service.errors import ConfigurationError

_REMOTE = {"9p", "afs", "ceph", "cifs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
_MOUNTS = Path("/proc/self/mountinfo")


def make_local(setting: str, path: Path) -> None:
    """Make a folder where it does not exist, for this user only.

    Raises ConfigurationError, with the setting's name, for a folder that cannot be made, and for
    one in a network's file system: locks and SQLite's shared memory work on one machine only.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path}: {error.strerror}") from error
    if (kind := file_system(path)) in _REMOTE:
        raise ConfigurationError(
            f"{setting}: {path} is on a network's file system ({kind}), on which locks and "
            "SQLite's log are not reliable; use a disk of this machine"
        )


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
