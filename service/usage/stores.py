"""The store of usage that the settings name."""

from pathlib import Path

from service.usage.folder import UsageFolder
from service.usage.store import UsageStore


def usage_store(path: Path | None, storage: str | None) -> UsageStore | None:
    """The store below a folder, or at an address; None without either.

    Raises ConfigurationError for a store that cannot be used.
    """
    if storage is not None:
        return shared_usage(storage)
    return None if path is None else UsageFolder(path)


def shared_usage(address: str) -> UsageStore:
    """The store at an address; raises as `usage_store`."""
    # The client imports OpenTelemetry, which a service that traces nothing does without.
    from service.usage.shared import SharedUsage

    return SharedUsage(address)
