"""Ratios of real times to forecast times, tenant by tenant."""

from dataclasses import dataclass

from service.gate.samples import Samples

_SAMPLES = 128
_MEMORY_S = 10.0
_PART = 0.9


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A ratio of a real time, of wait and answer, to its forecast; `answer` is the latter's part.

    A wait is as long for a short answer as for a long one. So for any request the ratio is applied
    to its forecast wait and this `answer`, in seconds, and not to that of its own.
    """

    ratio: float = 1.0
    answer: float = 0.0

    def wait(self, forecast: float) -> float:
        """The seconds that a request will wait whose wait is forecast so."""
        # Below 1 it shortens the wait alone: a long answer must not make a wait seem short.
        return max(forecast * self.ratio, forecast + (forecast + self.answer) * (self.ratio - 1))


class Stretches:
    """The latest ratios of the time that a tenant's requests took to the time forecast for them.

    Kept per tenant, because the waits of a tenant over its share say nothing about another's.
    Ratios older than ten seconds are ignored: after a stall, refused requests could never show that
    it has ended. The 1,024 latest tenants are kept.
    """

    def __init__(self) -> None:
        self._tenants: Samples[tuple[float, Stretch]] = Samples(_SAMPLES)

    def add(self, tenant: str, stretch: Stretch, now: float) -> None:
        """Record a ratio of the tenant's, at `now` in seconds."""
        self._tenants.add(tenant, (now, stretch))

    def of(self, tenant: str, now: float) -> Stretch:
        """The 90 % quantile of the tenant's latest ratios; a ratio of 1 where there are none."""
        samples = self._tenants.of(tenant)
        while samples and samples[0][0] < now - _MEMORY_S:
            samples.popleft()
        if not samples:
            return Stretch()
        ordered = sorted(stretch for _, stretch in samples)
        return ordered[int(_PART * (len(ordered) - 1))]
