"""The store of usage that the settings name."""

from pathlib import Path

from service.plugins.usage.folder import UsageFolder
from service.plugins.usage.shared import SharedUsage
from service.plugins.usage.store import UsageStore


def usage_store(path: Path | None, storage: str | None) -> UsageStore | None:
    """The store below a folder, or at an address; None without either.

    Raises ConfigurationError for a store that cannot be used.
    """
    if storage is not None:
        return SharedUsage(storage)
    return None if path is None else UsageFolder(path)
