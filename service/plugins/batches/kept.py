"""Files and records that a service keeps of batches, at the places that the settings name."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.common.database import Database
from service.plugins.batches.bucket import Bucket
from service.plugins.batches.folder import Folder
from service.plugins.batches.local.register import LocalRegister
from service.plugins.batches.local.store import LocalStore
from service.plugins.batches.local.tables import VERSIONS
from service.plugins.batches.pointers import Pointers
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.shared.pointers import SharedPointers
from service.plugins.batches.shared.records import SharedRecords
from service.plugins.batches.shared.register import SharedRegister
from service.plugins.batches.shared.store import SharedStore
from service.plugins.batches.store import BatchStore, Register


@dataclass(frozen=True, slots=True)
class Kept:
    """Records as a tenant and as the runner see them, which the register closes, and files."""

    store: BatchStore
    register: Register
    folder: Folder


def kept(path: Path, settings: BatchSettings, clock: Callable[[], float] = time.time) -> Kept:
    """Records in the database of a folder, or at `settings.storage`; files there or in a bucket.

    `clock` gives seconds since 1970. Raises ConfigurationError for a folder or an address that
    cannot be used.
    """
    bucket = None if settings.files is None else Bucket(settings.files)
    if settings.storage is None:
        folder = Folder(path, bucket)
        database = Database(folder.database, VERSIONS)
        own = LocalStore(database, settings, clock)
        return Kept(own, LocalRegister(database, folder, clock), folder)
    store, register, pointers = shared(settings.storage, settings, clock)
    return Kept(store, register, Folder(path, bucket, pointers))


def shared(
    address: str, settings: BatchSettings, clock: Callable[[], float] = time.time
) -> tuple[BatchStore, Register, Pointers]:
    """The records of all replicas; ConfigurationError for an address that cannot be used."""
    records = SharedRecords(address)
    store = SharedStore(records, settings, clock)
    return store, SharedRegister(records, clock), SharedPointers(records)
