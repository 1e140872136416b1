"""Standing of a tenant's quotas, told in the headers of every answer, in OpenAI's form."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from service.tenants.tenant import Counted, Quota


@dataclass(frozen=True, slots=True)
class Standing:
    """Amount left of a quota in its present window, which ends in so many seconds."""

    quota: Quota
    left: int
    resets_s: float


def headers_of(standings: Iterable[Standing], unspent_tokens: int = 0) -> dict[str, str]:
    """The headers `x-ratelimit-*`; of several quotas of one kind, for the one with the least left.

    `unspent_tokens` are still reserved, and are given back when the request ends.
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
