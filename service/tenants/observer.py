"""The observer of a tenancy."""

from typing import Protocol


class TenancyObserver(Protocol):
    """Counts reloads of keys and failures of quotas, without Prometheus in this package."""

    def keys_read(self, accepted: bool) -> None:
        """Count changed keys that were read, accepted or refused."""

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the store; `reason` is timeout or error."""
