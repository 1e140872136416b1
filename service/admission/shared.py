"""Shares what tenants were served between replicas, so that they are treated fairly over all.

Each replica adds to a hash in Redis or Valkey what it served each tenant since its last exchange,
and reads the sums. What others served is charged to the tenants here, as if this replica had served
it (`FairQueue.add_elsewhere`): the tenant that got least from all replicas together is next. So the
bound of fair_queue.py holds for all replicas but for what the pool serves between two exchanges.
A tenant that starts to wait is raised to the level of those that wait here, as ever; only service
while something waits or runs here is charged. Nobody earns credit by a pause, or by having been
away from this replica.

Nothing of a request waits for the store: exchanges are made by a task of their own. While the store
does not answer, each replica is fair by its own counters alone; what was served meanwhile is
never reported, and the first exchange afterwards only reads. A lost answer loses or doubles what
was served between two exchanges.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from service.common.redis_client import ANSWER_SECONDS, KEY_PREFIX, connect, report_unreachable
from service.errors import Unavailable
from service.settings.admission import AdmissionSettings

_log = logging.getLogger(__name__)

_SETTING = "admission.storage"
_REST_SECONDS = 1.0
_MOST_TENANTS = 2_000
"""Tenants, of both tiers, in the sums of a minute; each replica is fair alone to any others."""
_LIFE_MS = 60_000

_EXCHANGE = """
if redis.call("HSETNX", KEYS[1], "", ARGV[1]) == 1 then
    redis.call("PEXPIRE", KEYS[1], ARGV[2])
end
for place = 4, #ARGV, 2 do
    local name, service = ARGV[place], ARGV[place + 1]
    if redis.call("HLEN", KEYS[1]) <= tonumber(ARGV[3])
            or redis.call("HEXISTS", KEYS[1], name) == 1 then
        redis.call("HINCRBYFLOAT", KEYS[1], name, service)
    end
end
return cjson.encode(redis.call("HGETALL", KEYS[1]))
"""
"""Adds to the sums, and returns all as one string, which redis-py parses ten times as fast.

The hash ends a minute after its beginning and starts again from nothing, so it has the tenants of
the last minute only. The field without a name says which hash it is.
"""


class Queue(Protocol):
    """What takes part: `AdmissionController`."""

    def take_served(self) -> dict[str, float]:
        """The service of each tenant since the last call, divided by its weight."""

    def add_elsewhere(self, served: Mapping[str, float]) -> None:
        """Charge tenants for what others served, divided by their weights."""


class ExchangeObserver(Protocol):
    """Is notified of each exchange."""

    def exchanged(self, outcome: str) -> None:
        """Count an exchange: ok, timeout or error."""


def check_storage(settings: AdmissionSettings) -> None:
    """Raise ConfigurationError for an address that cannot be used; does not connect."""
    if settings.storage is not None:
        connect(settings.storage, _SETTING)


class Sums:
    """The others' service, found from sums that include one's own.

    `None` as the last sums means that these are unknown: the next ones are the beginning.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] | None = None
        self._id = ""

    @property
    def known(self) -> bool:
        """True between an exchange and the next failure."""
        return self._last is not None

    def forget(self) -> None:
        """The store failed: begin again with the next sums."""
        self._last = None

    def others(self, sums: dict[str, str], sent: Mapping[str, float]) -> dict[str, float]:
        """What the others served since the last sums; `sent` is what was added to these here.

        A sum that is smaller than expected, since prompts turned out to be cached, counts once
        later ones make up for it.
        """
        now_id, now = sums.pop(""), {name: float(value) for name, value in sums.items()}
        last, self._last = self._last, now
        if last is None:
            self._id = now_id
            return {}
        if now_id != self._id:  # a new hash, of which everything came after the last exchange
            self._id, last = now_id, {}
        found = {}
        for name, total in now.items():
            expected = last.get(name, 0.0) + sent.get(name, 0.0)
            if total > expected:
                found[name] = total - expected
            else:
                now[name] = expected
        return found


class SharedService:
    """One engine's exchange with the other replicas, at an address in the settings.

    `name` is the model's. While it has no answer from the store, the name is in `alone`.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        name: str,
        queue: Queue,
        observer: ExchangeObserver,
        alone: set[str],
    ) -> None:
        assert settings.storage is not None
        self._client: Any = connect(settings.storage, _SETTING)
        pool = name if settings.pool is None else f"{settings.pool}/{name}"
        self._key = f"{KEY_PREFIX}/served/{{{pool}}}"
        self._name, self._queue, self._observer = name, queue, observer
        self._seconds = settings.exchange_ms / 1000
        self._sums = Sums()
        self._alone = alone
        alone.add(name)
        self._exchanged_at = time.monotonic()
        self._failed = False

    @property
    def age(self) -> float:
        """Seconds since the last answer of the store, or since the start."""
        return time.monotonic() - self._exchanged_at

    async def run(self) -> None:
        """Exchange until cancelled."""
        try:
            while True:
                await self._exchange()
                rest = self._seconds if self._sums.known else max(self._seconds, _REST_SECONDS)
                await asyncio.sleep(rest)
        finally:
            await self._client.aclose()

    async def _exchange(self) -> None:
        served = self._queue.take_served()
        sent = {name: round(each, 3) for name, each in served.items()} if self._sums.known else {}
        began = time.monotonic()
        try:
            with report_unreachable("tenants' service"):
                answer = await self._ask(sent)
        except Unavailable as error:
            self._fail(error)
            return
        fields = json.loads(answer)
        sums = dict(zip(fields[::2], fields[1::2], strict=True))
        self._queue.add_elsewhere(self._sums.others(sums, sent))
        self._exchanged_at = began
        self._observer.exchanged("ok")
        if self._name in self._alone:
            self._alone.discard(self._name)
            _log.info("%s: tenants' service is shared with the other replicas", self._name)
        self._failed = False

    async def _ask(self, sent: Mapping[str, float]) -> Any:
        """Run the script, in a task of its own.

        redis-py waits with `asyncio.wait_for`, which may swallow a cancellation before Python 3.12.
        """
        pairs = [part for name, service in sent.items() for part in (name, service)]
        bounds = (uuid.uuid4().hex, _LIFE_MS, _MOST_TENANTS)
        script = self._client.eval(_EXCHANGE, 1, self._key, *bounds, *pairs)
        task: asyncio.Task[Any] = asyncio.create_task(script)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait([task], timeout=ANSWER_SECONDS)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=_REST_SECONDS)

    def _fail(self, error: Unavailable) -> None:
        self._sums.forget()
        cause = error.__cause__
        slow = isinstance(cause, TimeoutError) or type(cause).__name__ == "TimeoutError"
        self._observer.exchanged("timeout" if slow else "error")
        self._alone.add(self._name)
        if not self._failed:
            self._failed = True
            # Its message may hold the store's address and password.
            _log.error(
                "%s: the store of admission.storage does not answer (%s): this replica is fair "
                "among its own requests alone, until it answers again",
                self._name,
                type(cause).__name__,
            )
