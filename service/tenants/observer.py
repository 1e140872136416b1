"""The observer of a tenancy."""

from collections.abc import Mapping
from typing import Protocol


class TenancyObserver(Protocol):
    """Follows keys, weights and failures of quotas, without Prometheus in this package."""

    def weights_read(self, weights: Mapping[str, float]) -> None:
        """Take the weights of all tenants by name, in place of those before."""

    def keys_read(self, accepted: bool) -> None:
        """Count changed keys that were read, accepted or refused."""

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the store; `reason` is timeout or error."""
