"""The latest samples of each tenant."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Sample = TypeVar("Sample")

_TENANTS = 1024


class Samples(Generic[Sample]):
    """At most `each` samples of a tenant, those of the 1,024 tenants with the latest ones."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._tenants: OrderedDict[str, deque[Sample]] = OrderedDict()

    def add(self, tenant: str, sample: Sample) -> None:
        """Keep a sample of a tenant in place of its oldest one."""
        if tenant not in self._tenants:
            self._tenants[tenant] = deque(maxlen=self._each)
            if len(self._tenants) > _TENANTS:
                self._tenants.popitem(last=False)
        self._tenants[tenant].append(sample)
        self._tenants.move_to_end(tenant)

    def of(self, tenant: str) -> deque[Sample]:
        """A tenant's samples, oldest first; the caller may drop some. Empty if none are kept."""
        return self._tenants.get(tenant, deque())
