"""Allowance of one HTTP request out of its tenant's quotas."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from service.errors import ServiceError
from service.tenants.local_counts import Window
from service.tenants.quota_store import QuotaStore
from service.tenants.standing import headers_of
from service.tenants.tenant import ANONYMOUS, Tenant


@dataclass(slots=True)
class Reservation:
    """Tokens reserved for one engine request, whose runner sets `used` at its end."""

    tokens: int
    used: int | None = None

    @property
    def unused(self) -> int:
        """Tokens to give back once the request has ended."""
        return self.tokens - (self.used or 0)


@dataclass(slots=True)
class Allowance:
    """One request's use of its tenant's quotas; without a store everything is allowed.

    Tokens are reserved before the engine is asked, and settled after the request's end.
    """

    store: QuotaStore | None = None
    tenant: Tenant = ANONYMOUS
    _taken: list[tuple[Reservation, "asyncio.Task[Sequence[Window]]"]] = field(default_factory=list)

    async def count_request(self) -> None:
        """Count the request itself; raises as `QuotaStore.take`."""
        if self.store is not None and self._counts("requests"):
            await self.store.take(self.tenant, "requests", 1)

    async def reserve(self, tokens: int) -> Reservation:
        """Reserve the most that an engine request may use; raises as `QuotaStore.take`."""
        reservation = Reservation(tokens)
        if self.store is not None and self._counts("tokens"):
            taking = asyncio.create_task(self.store.take(self.tenant, "tokens", tokens))
            self._taken.append((reservation, taking))
            # A request that is cancelled meanwhile still settles the tokens taken.
            await asyncio.shield(taking)
        return reservation

    async def settle(self) -> None:
        """Give back reserved tokens that were not used, at the request's end."""
        unused: Counter[Window] = Counter()
        for reservation, taking in self._taken:
            with suppress(ServiceError):
                for window in await taking:
                    unused[window] += reservation.unused
        if self.store is not None:
            await self.store.give_back(unused)

    def headers(self) -> dict[str, str]:
        """Headers of the answer that say what is left of the tenant's quotas."""
        if self.store is None or not self.tenant.quotas:
            return {}
        ended = (reservation for reservation, _ in self._taken if reservation.used is not None)
        unspent = sum(reservation.unused for reservation in ended)
        return headers_of(self.store.standings(self.tenant), unspent)

    def _counts(self, counted: str) -> bool:
        return any(quota.counted == counted for quota in self.tenant.quotas)
