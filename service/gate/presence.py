"""The tenants that a share is kept for."""

from collections import OrderedDict
from dataclasses import dataclass

_LINGER_S = 30.0


@dataclass(slots=True)
class _Present:
    weight: float
    tickets: int = 0


class Presence:
    """Tenants with tickets, and those whose last ticket ended within the last 30 seconds.

    So a tenant with a request every few seconds keeps its share in between. Times are seconds of
    one clock; every operation is O(1) amortised.
    """

    def __init__(self) -> None:
        self._here: dict[str, _Present] = {}
        self._left: OrderedDict[str, float] = OrderedDict()
        self._weight = 0.0
        self._weight_with_tickets = 0.0
        self._now = 0.0

    @property
    def tenants(self) -> int:
        """Number of tenants that a share is kept for."""
        return len(self._here)

    def tick(self, now: float) -> None:
        """Let time pass; drop the tenants that have been away for too long."""
        self._now = now
        while self._left and next(iter(self._left.values())) < now - _LINGER_S:
            tenant, _ = self._left.popitem(last=False)
            self._weight -= self._here.pop(tenant).weight
            if not self._here:
                self._weight = self._weight_with_tickets = 0.0  # sums of floats drift

    def enter(self, tenant: str, weight: float) -> None:
        """Count a ticket of a tenant, which takes this weight."""
        present = self._here.setdefault(tenant, _Present(0.0))
        self._weight += weight - present.weight
        self._weight_with_tickets += weight - (present.weight if present.tickets else 0.0)
        present.weight = weight
        present.tickets += 1
        self._left.pop(tenant, None)

    def leave(self, tenant: str) -> None:
        """Note that a ticket of the tenant has ended."""
        present = self._here[tenant]
        present.tickets -= 1
        if not present.tickets:
            self._weight_with_tickets -= present.weight
            self._left[tenant] = self._now

    def share(self, tenant: str, weight: float) -> float:
        """The part of the service that is kept for a tenant of this weight, in (0, 1]."""
        present = self._here.get(tenant)
        others = self._weight - (present.weight if present is not None else 0.0)
        return weight / (max(others, 0.0) + weight)

    def due(self, tenant: str, weight: float) -> float:
        """The tenant's part among the tenants with tickets, in (0, 1]."""
        present = self._here.get(tenant)
        active = present is not None and present.tickets > 0
        others = self._weight_with_tickets - (present.weight if present and active else 0.0)
        return weight / (max(others, 0.0) + weight)
