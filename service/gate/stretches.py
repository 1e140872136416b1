"""Ratios of real times to forecast times, tenant by tenant."""

from service.gate.samples import Samples

_SAMPLES = 128
_MEMORY_S = 10.0
_PART = 0.9


class Stretches:
    """The latest ratios of the time that a tenant's requests took to the time forecast for them.

    Kept per tenant, because the waits of a tenant over its share say nothing about another's.
    Ratios older than ten seconds are ignored: after a stall, refused requests could never show that
    it has ended. The 1,024 latest tenants are kept.
    """

    def __init__(self) -> None:
        self._tenants: Samples[tuple[float, float]] = Samples(_SAMPLES)

    def add(self, tenant: str, stretch: float, now: float) -> None:
        """Record a ratio of the tenant's, at `now` in seconds."""
        self._tenants.add(tenant, (now, stretch))

    def of(self, tenant: str, now: float) -> float:
        """The 90 % quantile of the tenant's latest ratios; 1 where there are none."""
        samples = self._tenants.of(tenant)
        while samples and samples[0][0] < now - _MEMORY_S:
            samples.popleft()
        if not samples:
            return 1.0
        ordered = sorted(stretch for _, stretch in samples)
        return ordered[int(_PART * (len(ordered) - 1))]
