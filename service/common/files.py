"""Files: their names, their digest, and atomic writing."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.errors import ConfigurationError

# A plain name beside the manifest: no folder, no "..", no hidden file.
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def file_digest(path: Path) -> str:
    """Return `sha256:<hex>` of a file's bytes, read in a stream."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file, or a folder's entries, to disk, so that a rename survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file atomically: a reader, or a crash, sees either the old or the new bytes.

    `owner` is the user's and the group's id, by default this process's. Raises OSError and keeps
    the old file; PermissionError for an owner that this process may not set.
    """
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            own = os.fstat(file.fileno())
            if owner is not None and owner != (own.st_uid, own.st_gid):
                os.chown(temporary, *owner)
            temporary.chmod(mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_texts(path: Path, max_bytes: int) -> dict[str, bytes]:
    """The bytes of a file, or of every file in a folder whose name begins without a dot, by name.

    If the folder is a mounted ConfigMap or Secret, all files are read from the same version, even
    while Kubernetes swaps `..data`. Raises ConfigurationError for files that cannot be read or have
    over `max_bytes` together.
    """
    sources: dict[str, bytes] = {}
    size = 0
    try:
        for file in _plain_files(path):
            with file.open("rb") as stream:
                sources[file.name] = stream.read(max_bytes + 1)
            size += len(sources[file.name])
            if size > max_bytes:
                raise ConfigurationError(f"{path}: at most {max_bytes} bytes, got more")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    return sources


def _plain_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    version = path / "..data"
    folder = version.resolve() if version.is_dir() else path
    names = sorted(folder.iterdir())
    return [file for file in names if not file.name.startswith(".") and file.is_file()]


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
    """The type of the file system that holds a path; empty if the system does not report it."""
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
