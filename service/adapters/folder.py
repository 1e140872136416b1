"""Rules for the content of an adapter's folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE
from service.adapters.refusal import AdapterRefused
from service.common.files import file_digest

MAX_FOLDER_BYTES = 4 << 30
# Formats that run code when they are read.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_MAX_ENTRIES = 1000


def list_files(adapter: str, folder: Path) -> dict[str, int]:
    """Return the size of every file beside the manifest and its signature.

    Raises AdapterRefused for a symlink, a folder or special file, and for a pickle by its name.
    Symlinks are refused wherever they point, because their target can change after this check.
    """
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                _check_entry(adapter, entry)
                if entry.name not in (MANIFEST_FILE, SIGNATURE_FILE):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                if len(sizes) > _MAX_ENTRIES:
                    raise AdapterRefused(
                        adapter, ".", "too many files", f"at most {_MAX_ENTRIES}", "more"
                    )
    except OSError as error:
        raise AdapterRefused(
            adapter, ".", "cannot be listed", "a folder", error.strerror
        ) from error
    return sizes


def _check_entry(adapter: str, entry: "os.DirEntry[str]") -> None:
    if entry.is_symlink():
        raise AdapterRefused(
            adapter, entry.name, "is a symlink", "a regular file", f"-> {os.readlink(entry.path)}"
        )
    if not entry.is_file(follow_symlinks=False):
        kind = "a folder" if entry.is_dir(follow_symlinks=False) else "a special file"
        raise AdapterRefused(adapter, entry.name, "is not a file", "a regular file", kind)
    if entry.name.lower().endswith(_PICKLES):
        suffix = Path(entry.name).suffix
        raise AdapterRefused(
            adapter, entry.name, "may hold a pickle", "weights in safetensors only", suffix
        )


def check_listing(adapter: str, folder: Path, files: Mapping[str, str]) -> None:
    """Refuse a folder that does not hold exactly the listed files; raises AdapterRefused."""
    sizes = list_files(adapter, folder)
    for name in sorted(sizes.keys() | files.keys()):
        if name not in files:
            raise AdapterRefused(
                adapter, name, "is not listed", f"only files of {MANIFEST_FILE}", "an extra file"
            )
        if name not in sizes:
            raise AdapterRefused(adapter, name, "is missing", "a file", "nothing")
        if sizes[name] == 0:
            raise AdapterRefused(adapter, name, "is empty", "at least 1 byte", "0 bytes")
    total = sum(sizes.values())
    if total > MAX_FOLDER_BYTES:
        raise AdapterRefused(
            adapter, ".", "is too large", f"at most {MAX_FOLDER_BYTES} bytes", f"{total} bytes"
        )


def check_digests(adapter: str, folder: Path, files: Mapping[str, str]) -> None:
    """Refuse a file whose bytes are not those listed; raises AdapterRefused."""
    for name, expected in files.items():
        found = file_digest(folder / name)
        if found != expected:
            raise AdapterRefused(adapter, name, "digest differs", expected, found)
