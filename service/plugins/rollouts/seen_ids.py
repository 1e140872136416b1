"""Answers that were rated, so that each counts once."""

import heapq
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from service.plugins.rollouts.answer_ids import DAY_SECONDS, RatedAnswer, too_old

MOST = 32_768

Seen = tuple[int, str]
"""The time and the nonce of an answer."""


class SeenIds:
    """The answers that each tenant rated: of a day, and at most MOST of all tenants.

    Where the memory is full, the tenant that rated the most loses its oldest answer, and can rate
    none as old any more. So none ever counts twice, and no tenant takes the place of one that rates
    less.
    """

    def __init__(self, kept: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> None:
        self._tenants = {tenant: _TenantSeen(**each) for tenant, each in kept.items()}

    def add(self, tenant: str, answer: RatedAnswer, now: float) -> bool:
        """Remember an answer; False if it was rated already.

        Raises InvalidRequest for one whose time has passed.
        """
        own = self._tenants.setdefault(tenant, _TenantSeen())
        if not own.add((answer.time, answer.nonce)):
            return False
        own.forget_before(now - DAY_SECONDS - 1)
        if sum(map(len, self._tenants.values())) > MOST:
            max(self._tenants.values(), key=len).forget_oldest()
        return True

    def kept(self) -> dict[str, dict[str, Any]]:
        """The answers by tenant, as the constructor takes them."""
        return {tenant: each.kept() for tenant, each in self._tenants.items()}


class _TenantSeen:
    """The answers that a tenant rated; `floor` is the time up to which some were forgotten."""

    def __init__(self, ids: Iterable[Iterable[Any]] = (), floor: int = 0) -> None:
        self._heap: list[Seen] = [(time, nonce) for time, nonce in ids]
        heapq.heapify(self._heap)
        self._members = set(self._heap)
        self._floor = floor

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, seen: Seen) -> bool:
        if seen in self._members:
            return False
        if seen[0] <= self._floor:
            raise too_old("too many answers since this one were rated")
        heapq.heappush(self._heap, seen)
        self._members.add(seen)
        return True

    def forget_before(self, time: float) -> None:
        while self._heap[0][0] < time:
            self._members.remove(heapq.heappop(self._heap))

    def forget_oldest(self) -> None:
        oldest = heapq.heappop(self._heap)
        self._members.remove(oldest)
        self._floor = oldest[0]

    def kept(self) -> dict[str, Any]:
        return {"ids": list(self._heap), "floor": self._floor}
