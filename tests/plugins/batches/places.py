"""Places in which tests keep batches: a folder, or a folder beside a Redis."""

from collections.abc import Callable
from pathlib import Path

from service.plugins.batches.folder import Folder
from service.plugins.batches.kept import Kept, kept, shared
from service.plugins.batches.settings import BatchSettings


def opened(
    path: Path, storage: str | None, settings: BatchSettings, clock: Callable[[], float]
) -> Kept:
    """Files and records of one process; the files are in the folder in both cases."""
    if storage is None:
        return kept(path, settings, clock)
    store, register, pointers = shared(storage, settings, clock)
    return Kept(store, register, Folder(path, None, pointers))
