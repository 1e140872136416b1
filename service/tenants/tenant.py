"""A tenant: its rights, quotas, weight and salt group, and the salts of its cached prefixes."""

import hmac
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, get_args

Counted = Literal["requests", "tokens"]


class Tier(StrEnum):
    """Class of work, by OpenAI's names of service tiers: interactive, or in the background."""

    DEFAULT = "default"
    FLEX = "flex"


AUTO_TIER = "auto"
AS_DEFAULT = ("priority", "scale", "standard_only")
"""Tiers that count as the default one: OpenAI's higher ones, and Anthropic's name of it."""
TIERS = (AUTO_TIER, *Tier, *AS_DEFAULT)
"""Values of `service_tier`."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `amount` requests or tokens in each window of `seconds`."""

    counted: Counted
    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """Owner of a set of rights, quotas and a fair share of the queue.

    `weight` is the tenant's share of the engine relative to others, positive and finite. `models`
    and `adapters` are the names of base models and adapters that the tenant may use; None allows
    all. Tenants with the same `salt_group` share cached prefixes. `tiers` are the service tiers
    that the tenant may use; the first is the default. Of a `gateway` it is believed for whom a
    request is, among which its share is divided.
    """

    name: str
    weight: float = 1.0
    models: frozenset[str] | None = None
    adapters: frozenset[str] | None = None
    quotas: tuple[Quota, ...] = ()
    salt_group: str | None = None
    tiers: tuple[Tier, ...] = (Tier.DEFAULT, Tier.FLEX)
    gateway: bool = False

    def may_use_base(self, name: str) -> bool:
        """True if the base model of this name exists for the tenant."""
        return self.models is None or name in self.models

    def may_use_adapter(self, name: str) -> bool:
        """True if the adapter exists for the tenant; `name@version` is as `name`."""
        return self.adapters is None or name.partition("@")[0] in self.adapters

    @property
    def cache_domain(self) -> str:
        """Group within which the tenant's caches are shared; by default the tenant alone."""
        return f"tenant:{self.name}" if self.salt_group is None else f"group:{self.salt_group}"


ANONYMOUS = Tenant("anonymous")
"""Every caller of a service without keys, and of the routes that need none."""

SERVICE = Tenant("service")
"""The service's own requests: warm-up, probes, proofs."""

RESERVED = frozenset({ANONYMOUS.name, SERVICE.name})
"""Names that no tenant with keys may have."""


_SECRET_BYTES = 32


class CacheSalts:
    """One salt for each pair of a tenant (or its salt group) and the model weights that it uses.

    Salts depend on a secret that lives as long as the process and its cache. So no caller can
    predict a salt, and no secret needs to be stored.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(_SECRET_BYTES)

    def salt(self, tenant: Tenant, weights: str) -> str:
        """HMAC-SHA256 of both; `weights` identifies an adapter's version, empty for the base."""
        # No domain holds a line break.
        text = f"{tenant.cache_domain}\n{weights}"
        return hmac.digest(self._secret, text.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a quota in its present window, and the seconds until the window ends."""

    quota: Quota
    left: int
    resets_s: float


def headers_of(standings: Iterable[Standing], unspent_tokens: int = 0) -> dict[str, str]:
    """The headers `x-ratelimit-*`; of several quotas of a kind, that with the least left.

    `unspent_tokens` are reserved now and given back when the request ends.
    """
    headers: dict[str, str] = {}
    known = list(standings)
    for kind in get_args(Counted):
        of_kind = [standing for standing in known if standing.quota.counted == kind]
        if not of_kind:
            continue
        least = min(of_kind, key=lambda standing: standing.left)
        left = least.left + (unspent_tokens if kind == "tokens" else 0)
        headers[f"x-ratelimit-limit-{kind}"] = str(least.quota.amount)
        headers[f"x-ratelimit-remaining-{kind}"] = str(min(max(0, left), least.quota.amount))
        headers[f"x-ratelimit-reset-{kind}"] = _duration(least.resets_s)
    return headers


def _duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `5s`, `6m0s`, `23h59m1s`; rounded up."""
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


class TenancyObserver(Protocol):
    """Is notified of keys, weights and quota failures, so that this package needs no Prometheus."""

    def weights_read(self, weights: Mapping[str, float]) -> None:
        """Take the weights of all tenants by name, in place of those before."""

    def keys_read(self, accepted: bool) -> None:
        """Count changed keys that were read, accepted or refused."""

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the store; `reason` is timeout or error."""
