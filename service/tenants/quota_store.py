"""Where the use of quotas is counted: in this process or in Redis, for every replica."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import limits.errors
from limits.aio.storage import RedisStorage, Storage
from limits.storage import storage_from_string

from service.errors import ConfigurationError, InvalidRequest, TooManyRequests, Unavailable
from service.tenants.tenant import Counted, Quota, Tenant

_log = logging.getLogger(__name__)

_REST_SECONDS = 1.0
_AT_ONCE = 32
"""Operations under way at one time, and so half the connections to Redis."""

_KEY_PREFIX = "llm-service"
_PERIODS = {60: "minute", 86_400: "day"}


class QuotaObserver(Protocol):
    """Who is told when use could not be counted; `reason` is timeout or error."""

    def quota_store_failed(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a tenant's quota; windows begin at whole minutes and days of UTC."""

    quota: Quota
    key: str
    ends: float


class QuotaStore:
    """Counts use by fixed windows and refuses what goes over.

    A store that does not answer within `timeout_s` is left alone for a second, so that a dead one
    costs one bounded wait now and then. What then follows is the policy: `fail_open` lets requests
    pass uncounted, else they get a 503. `clock` is seconds since 1970, the same on every replica.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        fail_open: bool,
        observer: QuotaObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        # Counting in memory waits for nobody: a timeout would only tell that the loop was late.
        self._timeout_s = None if url.startswith("memory:") else timeout_s
        self._fail_open = fail_open
        self._observer = observer
        self._clock = clock
        self._opened: Storage | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._rests_until = 0.0
        self._failing = False

    def check(self) -> None:
        """Raise ConfigurationError for an address that cannot be one; connects to nothing."""
        if not self._url.startswith("memory:"):
            self._opened = self._open()

    async def take(self, tenant: Tenant, counted: Counted, amount: int) -> Sequence[Window]:
        """Count so much use at once, before it happens; returns the windows that count it.

        Raises TooManyRequests with the seconds to the end of the window that is full, and counts
        nothing then; InvalidRequest for more than a whole window holds; Unavailable as the policy
        says. While a refused amount is taken back, others may be refused for it.
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
            if self._fail_open:
                return ()
            raise Unavailable(
                "Quotas cannot be checked now. Try again later.",
                code="quota_store_unavailable",
                retry_after=_REST_SECONDS,
            )
        full = [w for w, count in zip(windows, counts, strict=True) if count > w.quota.amount]
        if full:
            await self._add(dict.fromkeys(windows, -amount))
            raise _used_up(max(full, key=lambda window: window.ends), now)
        return windows

    async def give_back(self, amounts: Mapping[Window, int]) -> None:
        """Take back what was counted and not used; a window that has ended does not matter."""
        await self._add({window: -amount for window, amount in amounts.items() if amount})

    async def close(self) -> None:
        """Close the connections."""
        if isinstance(self._opened, RedisStorage):
            bridge: Any = self._opened.bridge  # whose base class does not declare it
            await bridge.get_connection().aclose()

    async def _add(self, amounts: Mapping[Window, int]) -> list[int] | None:
        """The counts after adding to each window; None if the store does not tell."""
        if not amounts:
            return []
        if time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                self._opened = self._opened or self._open()
                counts = await asyncio.gather(
                    *(
                        self._opened.incr(window.key, window.quota.seconds, amount)
                        for window, amount in amounts.items()
                    )
                )
        except (TimeoutError, OSError, limits.errors.StorageError) as error:
            self._fail(error)
            return None
        if self._failing:
            self._failing = False
            _log.info("the quota store answers again")
        return counts

    def _fail(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + _REST_SECONDS
        self._observer.quota_store_failed("timeout" if isinstance(error, TimeoutError) else "error")
        if not self._failing:
            self._failing = True
            policy = "pass uncounted" if self._fail_open else "get a 503"
            # Its message may hold the store's address and password.
            _log.error("the quota store failed (%s): requests %s", type(error).__name__, policy)

    def _open(self) -> Storage:
        scheme, _, rest = self._url.partition("://")
        # Valkey speaks Redis's protocol.
        scheme = scheme.replace("valkeys", "rediss").replace("valkey", "redis")
        options = {} if scheme == "memory" else {"implementation": "redispy"}
        options |= {} if scheme == "memory" else {"key_prefix": _KEY_PREFIX}
        try:
            storage = storage_from_string(
                f"async+{scheme}://{rest}", wrap_exceptions=True, **options
            )
        except (ValueError, limits.errors.ConfigurationError) as error:
            raise ConfigurationError(
                f"quotas.storage: cannot be used: {type(error).__name__}"
            ) from None
        assert isinstance(storage, Storage)
        return storage


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
