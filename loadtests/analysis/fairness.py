"""Fairness over tenants."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.load.choice import Tenant
from loadtests.protocol.record import Record

_ROUNDING = 1e-9


class TenantShare(BaseModel):
    """Output tokens that a tenant asked for, got, and would get from a fair server."""

    model_config = ConfigDict(extra="forbid")

    weight: float
    demand_tokens: float
    served_tokens: float
    entitled_tokens: float


class Fairness(BaseModel):
    """Jain's index, from 1/n (one tenant gets everything) to 1 (all get the same), in two forms.

    `jain_service` compares the served tokens per weight. `jain_entitled` compares the parts that
    tenants got of their weighted max-min shares: it is 1 if a small tenant got all it asked for and
    the large ones share the rest by weight.
    """

    model_config = ConfigDict(extra="forbid")

    jain_service: float | None
    jain_entitled: float | None
    tenants: dict[str, TenantShare]

    def within_share(self) -> list[str]:
        """Tenants that asked for no more than they are entitled to; empty for a single tenant."""
        return [
            name
            for name, share in self.tenants.items()
            if len(self.tenants) > 1
            and share.demand_tokens <= share.entitled_tokens * (1 + _ROUNDING)
        ]


def jain(values: Sequence[float]) -> float | None:
    """(sum x)^2 / (n * sum x^2): Jain, Chiu and Hawe (1984). None when no tenant got any."""
    squares = sum(value * value for value in values)
    return None if squares == 0 else sum(values) ** 2 / (len(values) * squares)


def max_min(capacity: float, demands: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Weighted max-min fair shares of a capacity: no tenant gets more than it asked for."""
    shares = [0.0] * len(demands)
    hungry = {i for i, demand in enumerate(demands) if demand > 0}
    while hungry and capacity > 1e-9:
        unit = capacity / sum(weights[i] for i in hungry)
        sated = {i for i in hungry if demands[i] - shares[i] <= unit * weights[i]}
        for i in sated or hungry:
            given = demands[i] - shares[i] if sated else unit * weights[i]
            shares[i] += given
            capacity -= given
        hungry = hungry - sated if sated else set()
    return shares


def fairness(records: Sequence[Record], tenants: Sequence[Tenant]) -> Fairness:
    """Served, requested and entitled tokens; an unserved request counts as the mean served one."""
    served = {tenant.name: 0.0 for tenant in tenants}
    asked = dict.fromkeys(served, 0)
    answered = dict.fromkeys(served, 0)
    for record in records:
        asked[record.tenant] += 1
        if record.ok:
            answered[record.tenant] += 1
            served[record.tenant] += record.tokens
    mean = sum(served.values()) / max(1, sum(answered.values()))
    demands = [
        served[name] + (asked[name] - answered[name]) * (served[name] / count if count else mean)
        for name, count in answered.items()
    ]
    weights = [tenant.weight for tenant in tenants]
    entitled = max_min(sum(served.values()), demands, weights)
    got = [
        served[tenant.name] / share
        for tenant, share in zip(tenants, entitled, strict=True)
        if share > 0
    ]
    return Fairness(
        jain_service=jain([served[t.name] / t.weight for t in tenants]),
        jain_entitled=jain(got),
        tenants={
            tenant.name: TenantShare(
                weight=tenant.weight,
                demand_tokens=demands[i],
                served_tokens=served[tenant.name],
                entitled_tokens=entitled[i],
            )
            for i, tenant in enumerate(tenants)
        },
    )
