"""One process's part of a run: sends its share of the plan and records the answers."""

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter

import gevent
from gevent.pool import Group, Pool

from loadtests.analysis.run import Sample
from loadtests.drive.meter import Meter
from loadtests.drive.wire import Wire, encode
from loadtests.load.background import Users
from loadtests.load.plan import Call, Plan
from loadtests.load.scenario import ClosedLoad
from loadtests.protocol.api import Api, Request
from loadtests.protocol.record import Exchange, Record, record_of, unsent
from loadtests.target import tenant_keys

SAMPLE_S = 1.0


class Sender:
    """Sends the `worker`-th of `workers` shares;

    `start` is the run's start by `perf_counter`. `heard` is called once for every HTTP request,
    with its record and exchange, and `finished` when the share is done and all records are
    complete.
    """

    def __init__(
        self,
        plan: Plan,
        api: Api,
        wire: Wire,
        headers: Mapping[str, str],
        share: tuple[int, int],
        start: float,
        heard: Callable[[Request, Record, Exchange], None],
        finished: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.worker, self.workers = share
        self.start = start
        self.records: list[Record] = []
        self.samples: list[Sample] = []
        self.done = False
        self._api = api
        self._wire = wire
        self._extra = headers
        self._heard = heard
        self._finished = finished
        self._keys = tenant_keys(plan.scenario)
        self._meter = Meter(self.worker, start)
        self._users = 0
        self._clock = gevent.spawn(self._watch)

    def now(self) -> float:
        """Seconds from the start of the run."""
        return perf_counter() - self.start

    def open_loop(self) -> None:
        """Send each arrival at its instant, regardless of earlier answers."""
        scenario = self.plan.scenario
        pool = Pool(scenario.max_in_flight)
        beside = self._background()
        beside.spawn(self._send, self.plan.neighbour_calls(self.worker, self.workers), pool)
        try:
            arrivals = self.plan.share(self.worker, self.workers)
            self._send(map(self.plan.call, arrivals), pool)
            end = max(scenario.duration_s, self.now()) + scenario.drain_s
            # A neighbour's requests are in the pool, too, once they are sent.
            for group in (beside, pool):
                group.join(timeout=max(0.0, end - self.now()))
        finally:
            pool.kill()
            beside.kill()
            self._finish()

    def _send(self, calls: Iterable[Call], pool: Pool) -> None:
        """Send each call when it is due, in a greenlet of the pool."""
        for call in calls:
            request = self._api.request(call)
            body = encode(request)
            gevent.sleep(max(0.0, call.at - self.now()))
            if pool.full():
                self.records.append(unsent(call, self.worker))
            else:
                pool.spawn(self._converse, call, request, body)

    def closed_loop(self) -> None:
        """Act as one user: ask, wait for the answer, pause, ask again until the step ends.

        If the load has a fixed number of requests per user, the user ends after that many.
        """
        scenario = self.plan.scenario
        load = scenario.load
        assert isinstance(load, ClosedLoad)
        user = self.worker + self._users * self.workers
        self._users += 1
        count = 0
        gevent.sleep(max(0.0, -self.now()))
        try:
            while (now := self.now()) < scenario.duration_s and count != load.requests:
                step = min(int(now // load.step_s), len(load.users) - 1)
                if user >= load.users[step]:
                    gevent.sleep(0.05)
                    continue
                self._ask(self.plan.call(self.plan.closed_arrival(user, count, now)))
                count += 1
                gevent.sleep(load.think_s)
        finally:
            self._users -= 1
            if self._users == 0:
                self._finish()

    def _background(self) -> Group:
        """This process's users of the background work, each of whom waits for its stage."""
        work = self.plan.scenario.beside
        count = work.users if isinstance(work, Users) else 0
        users = Group()
        for user in range(self.worker, count, self.workers):
            users.spawn(self._work_beside, user)
        return users

    def _work_beside(self, user: int) -> None:
        """Ask one request after the other until the stage of the background work ends."""
        stage = self.plan.scenario.stages[-1]
        gevent.sleep(max(0.0, stage.start - self.now()))
        count = 0
        while (now := self.now()) < stage.end:
            self._ask(self.plan.background_call(user, count, now))
            count += 1

    def _ask(self, call: Call) -> None:
        request = self._api.request(call)
        self._converse(call, request, encode(request))

    def _converse(self, call: Call, request: Request, body: bytes) -> None:
        """A request and, in a session, those that follow it."""
        following: Call | None = call
        while following is not None:
            call = following
            self._meter.enter()
            exchange = self._wire.exchange(
                request, body, self._headers(call), self.start, call.cancel_after
            )
            self._meter.leave()
            record, text = record_of(call, exchange, self._api, self.worker)
            self.records.append(record)
            self._heard(request, record, exchange)
            if record.outcome == "unfinished":
                # The exchange noted that this greenlet is killed; now it ends.
                raise gevent.GreenletExit
            following = self.plan.next_turn(call, text, self.now()) if record.ok else None
            if following is not None:
                request = self._api.request(following)
                body = encode(request)
                gevent.sleep(max(0.0, following.at - self.now()))

    def _headers(self, call: Call) -> dict[str, str]:
        """The request's id is its place in the plan, so that a server's log can be set beside."""
        headers = {
            **self._extra,
            "Content-Type": "application/json",
            "X-Request-Id": f"load-{call.index}-{call.turn}",
        }
        key = self._keys[call.tenant]
        return headers if key is None else headers | {"Authorization": f"Bearer {key}"}

    def _watch(self) -> None:
        while True:
            gevent.sleep(SAMPLE_S)
            self.samples.append(self._meter.sample())

    def _finish(self) -> None:
        self._clock.kill()
        self.samples.append(self._meter.sample())
        self._wire.close()
        self.done = True
        self._finished()
