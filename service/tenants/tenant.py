"""A tenant: whose requests these are, and the share that they get."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whoever shares one set of rights and one place in the queue.

    `weight` is the tenant's share of the engine relative to others, positive and finite.
    """

    name: str
    weight: float = 1.0


ANONYMOUS = Tenant("anonymous")
"""Every caller of a service without keys."""

SERVICE = Tenant("service")
"""The service's own requests: warm-up, probes, proofs."""
