"""The observer of a tenancy."""

from typing import Protocol


class TenancyObserver(Protocol):
    """Counts what becomes of keys and quotas; it keeps Prometheus out of this package."""

    def keys_read(self, accepted: bool) -> None:
        """Changed keys were read, and accepted or refused."""

    def quota_store_failed(self, reason: str) -> None:
        """Use could not be counted; `reason` is timeout or error."""
