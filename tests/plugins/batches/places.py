"""Places in which tests keep batches: a folder, or a folder beside a Redis."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.plugins.batches.folder import Folder
from service.plugins.batches.local_store import LocalStore
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.shared_store import SharedStore
from service.plugins.batches.store import Store


@dataclass(frozen=True, slots=True)
class Opened:
    """Records and files of one process."""

    store: Store
    folder: Folder


def open_store(
    path: Path, storage: str | None, settings: BatchSettings, clock: Callable[[], float]
) -> Store:
    """The records of one process."""
    if storage is None:
        return LocalStore(path, settings, clock)
    return SharedStore(storage, settings, clock)


def opened(
    path: Path, storage: str | None, settings: BatchSettings, clock: Callable[[], float]
) -> Opened:
    """Files and records of one process; the files are in the folder in both cases."""
    store = open_store(path, storage, settings, clock)
    return Opened(store, Folder(path, store))
