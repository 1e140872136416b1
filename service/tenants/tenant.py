"""A tenant: its rights, quotas, weight and salt group."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Counted = Literal["requests", "tokens"]


class Tier(StrEnum):
    """Class of work, by OpenAI's names of service tiers: interactive, or in the background."""

    DEFAULT = "default"
    FLEX = "flex"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `amount` requests or tokens in each window of `seconds`."""

    counted: Counted
    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """Owner of a set of rights, quotas and one turn in the queue.

    `weight` is the tenant's share of the engine relative to others, positive and finite. `models`
    and `adapters` are the names that it may use of base models and adapters; None is every name.
    Tenants of one `salt_group` share cached prefixes. `tiers` are those that it may use; a request
    that chooses none gets the first.
    """

    name: str
    weight: float = 1.0
    models: frozenset[str] | None = None
    adapters: frozenset[str] | None = None
    quotas: tuple[Quota, ...] = ()
    salt_group: str | None = None
    tiers: tuple[Tier, ...] = (Tier.DEFAULT, Tier.FLEX)

    def may_use_base(self, name: str) -> bool:
        """True if the base model of this name exists for the tenant."""
        return self.models is None or name in self.models

    def may_use_adapter(self, name: str) -> bool:
        """True if the adapter exists for the tenant; `name@version` is as `name`."""
        return self.adapters is None or name.partition("@")[0] in self.adapters

    @property
    def cache_domain(self) -> str:
        """Group within which the tenant's caches are shared; by default the tenant alone."""
        kind, name = (
            ("tenant", self.name) if self.salt_group is None else ("group", self.salt_group)
        )
        return f"{kind}:{name}"


ANONYMOUS = Tenant("anonymous")
"""Every caller of a service without keys, and of the routes that need none."""

SERVICE = Tenant("service")
"""The service's own requests: warm-up, probes, proofs."""

RESERVED = frozenset({ANONYMOUS.name, SERVICE.name})
"""Names that no tenant with keys may have."""
