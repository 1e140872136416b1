"""Counts quotas, in this process alone or in a store that replicas share."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import limits.errors
from limits.aio.storage import RedisStorage

from service.common.redis_client import client_of, open_redis
from service.errors import InvalidRequest, ServiceError, TooManyRequests, Unavailable
from service.tenants.tenant import (
    ANONYMOUS,
    Counted,
    Quota,
    Standing,
    TenancyObserver,
    Tenant,
    headers_of,
)

_SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a tenant's quota; windows begin at whole minutes and days of UTC."""

    quota: Quota
    key: str
    ends: float


class LocalCounts:
    """Counts by window: the store's last count, and the local use that it has not confirmed yet.

    Without a store all use is counted here. Windows are dropped some time after their end; `clock`
    gives seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._confirmed: Counter[Window] = Counter()
        self._unsent: Counter[Window] = Counter()
        self._sent: Counter[Window] = Counter()
        self._swept = 0.0

    def add(self, window: Window, amount: int) -> int:
        """Add use that was not sent to the store; returns the window's count."""
        self._sweep()
        self._unsent[window] += amount
        return self.count(window)

    def count(self, window: Window) -> int:
        """The window's count, as far as this process knows."""
        return self._confirmed[window] + self.count_unconfirmed(window)

    def count_unconfirmed(self, window: Window) -> int:
        """Use that the store has not confirmed."""
        return self._unsent[window] + self._sent[window]

    def send(self, window: Window) -> int:
        """Take the unsent use, to send it to the store; then call `confirm` or `keep`."""
        amount = self._unsent.pop(window, 0)
        self._sent[window] += amount
        return amount

    def keep(self, window: Window, sent: int) -> None:
        """Mark sent use as unsent again: the store did not answer."""
        self._sent[window] -= sent
        self._unsent[window] += sent

    def confirm(self, window: Window, sent: int, count: int) -> int:
        """Record the store's count; returns it plus the use that is not confirmed yet."""
        self._sweep()
        self._sent[window] -= sent
        self._confirmed[window] = count
        return count + self.count_unconfirmed(window)

    def _sweep(self) -> None:
        now = self._clock()
        if now < self._swept + _SWEEP_SECONDS:
            return
        self._swept = now
        for counts in (self._confirmed, self._unsent, self._sent):
            for window in [window for window in counts if window.ends <= now]:
                del counts[window]


_log = logging.getLogger(__name__)

_SETTING = "quotas.storage"
REST_SECONDS = 1.0
_FAILURES = 3
"""Failures in a row after which the store counts as down; one alone may be a slow moment."""
_AT_ONCE = 32
"""Operations at one time, half the number of connections to Redis."""
_SLICES = 10
"""Parts of the wait for the store; a blocked event loop uses up only one of them."""

_PERIODS = {60: "minute", 86_400: "day"}


class QuotaStore:
    """Counts use by fixed windows and refuses use over the limit.

    The store has `timeout_s` to answer, not counting time in which the event loop is busy. If it
    does not answer, this process counts the use, on top of the store's last count. After three
    failures in a row the store counts as down, and is tried only once a second, so that few
    requests wait for it. Meanwhile this process counts alone if `fail_open` is true; otherwise
    requests get a 503. `clock` is seconds since 1970, the same on every replica. Raises
    ConfigurationError for an invalid address, without connecting.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        fail_open: bool,
        observer: TenancyObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared = None if url.startswith("memory:") else open_redis(url, _SETTING)
        self._timeout_s = timeout_s
        self._fail_open = fail_open
        self._observer = observer
        self._clock = clock
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._local = LocalCounts(clock)
        self._rests_until = 0.0
        self._failed_at = 0.0
        self._failures = 0

    async def take(self, tenant: Tenant, counted: Counted, amount: int) -> Sequence[Window]:
        """Count use before it happens; returns the windows that count it.

        Raises TooManyRequests, with the seconds to the end of the full window, and counts nothing
        then; InvalidRequest for an amount above a whole window's limit; Unavailable if the store is
        down and `fail_open` is false. A refused amount is counted for a moment before it is taken
        back, so other requests may be refused meanwhile.
        """
        now = self._clock()
        windows = [
            _window(tenant, quota, now) for quota in tenant.quotas if quota.counted == counted
        ]
        for window in windows:
            if amount > window.quota.amount:
                raise _too_much(window.quota, amount)
        counts = await self._add(dict.fromkeys(windows, amount))
        if counts is None:
            raise Unavailable(
                "Quotas cannot be checked now. Try again later.",
                code="quota_store_unavailable",
                retry_after=REST_SECONDS,
            )
        full = [w for w, count in zip(windows, counts, strict=True) if count > w.quota.amount]
        if full:
            await self._add(dict.fromkeys(windows, -amount))
            raise _used_up(max(full, key=lambda window: window.ends), now)
        return windows

    async def give_back(self, amounts: Mapping[Window, int]) -> None:
        """Give back use that was counted but not used; windows that have ended are ignored."""
        await self._add({window: -amount for window, amount in amounts.items() if amount})

    def standings(self, tenant: Tenant) -> list[Standing]:
        """What is left of the tenant's quotas, as this process knows it; asks no store."""
        now = self._clock()
        windows = [_window(tenant, quota, now) for quota in tenant.quotas]
        return [
            Standing(
                window.quota,
                left=window.quota.amount - self._local.count(window),
                resets_s=window.ends - now,
            )
            for window in windows
        ]

    async def close(self) -> None:
        """Close the connections."""
        if self._shared is not None:
            await client_of(self._shared).aclose()

    async def _add(self, amounts: Mapping[Window, int]) -> list[int] | None:
        """The counts after adding to each window; None if they are not known."""
        if not amounts:
            return []
        if self._shared is None:
            return self._add_here(amounts)
        async with self._slots:
            began = time.monotonic()
            if began >= self._rests_until:
                try:
                    return await self._add_there(self._shared, amounts)
                except (TimeoutError, OSError, limits.errors.StorageError) as error:
                    self._fail(error, began)
        if self._failures >= _FAILURES and not self._fail_open:
            return None
        # The store may have counted the use although its answer is missing: then it counts twice.
        # Use that is given back counts twice, too, in the tenant's favour. If it did not, requests
        # that are refused during a stall of the store would use up the tenant's day.
        return self._add_here(amounts)

    def _add_here(self, amounts: Mapping[Window, int]) -> list[int]:
        return [self._local.add(window, amount) for window, amount in amounts.items()]

    async def _add_there(self, store: RedisStorage, amounts: Mapping[Window, int]) -> list[int]:
        sent = {window: self._local.send(window) for window in amounts}
        counting = asyncio.gather(
            *(
                store.incr(window.key, window.quota.seconds, amount + sent[window])
                for window, amount in amounts.items()
            )
        )
        try:
            counts = await _answer(counting, self._timeout_s)
        except BaseException:
            for window, amount in sent.items():
                self._local.keep(window, amount)
            raise
        if self._failures >= _FAILURES:
            _log.info("the quota store answers again")
        self._failures = 0
        return [
            self._local.confirm(window, sent[window], count)
            for window, count in zip(amounts, counts, strict=True)
        ]

    def _fail(self, error: Exception, began: float) -> None:
        self._observer.quota_store_failed("timeout" if isinstance(error, TimeoutError) else "error")
        if began < self._failed_at:
            return  # operations sent together fail together, and count as one failure
        self._failed_at = time.monotonic()
        self._failures += 1
        if self._failures >= _FAILURES:
            self._rests_until = time.monotonic() + REST_SECONDS
        if self._failures == _FAILURES:
            policy = "are counted by each replica alone" if self._fail_open else "get a 503"
            # Its message may hold the store's address and password.
            _log.error("the quota store failed (%s): requests %s", type(error).__name__, policy)


async def _answer(counting: "asyncio.Future[list[int]]", seconds: float) -> list[int]:
    """Wait for the counts, at most so many seconds of free event-loop time; raises TimeoutError.

    A single timer would expire while the loop is blocked, before a waiting answer is read.
    """
    try:
        for _ in range(_SLICES):
            done, _ = await asyncio.wait([counting], timeout=seconds / _SLICES)
            if done:
                return counting.result()
        raise TimeoutError
    finally:
        if not counting.done():
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


def _window(tenant: Tenant, quota: Quota, now: float) -> Window:
    number = int(now // quota.seconds)
    # Braces keep a tenant's counters on one node of a cluster.
    key = f"{{{tenant.name}}}/{quota.counted}/{quota.seconds}/{number}"
    return Window(quota, key, ends=float((number + 1) * quota.seconds))


def _limit(quota: Quota) -> str:
    return f"{quota.amount} {quota.counted} a {_PERIODS.get(quota.seconds, f'{quota.seconds} s')}"


def _used_up(window: Window, now: float) -> TooManyRequests:
    return TooManyRequests(
        f"The quota of {_limit(window.quota)} is used up.",
        code="quota_exceeded",
        retry_after=max(0.0, window.ends - now),
    )


def _too_much(quota: Quota, amount: int) -> InvalidRequest:
    return InvalidRequest(
        f"The request may take {amount} {quota.counted}, prompt and longest answer together; the "
        f"quota is {_limit(quota)}. Ask for a shorter answer.",
        code="quota_too_small",
        param="max_tokens",
    )


@dataclass(slots=True)
class Reservation:
    """Tokens reserved for one engine request, whose runner sets `used` at its end."""

    tokens: int
    used: int | None = None

    @property
    def unused(self) -> int:
        """Reserved tokens to give back once the request has ended."""
        return self.tokens - (self.used or 0)


@dataclass(slots=True)
class Allowance:
    """One request's use of its tenant's quotas; without a store everything is allowed.

    Tokens are reserved before the engine runs; unused ones are given back after the request's end.
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
