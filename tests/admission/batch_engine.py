"""A continuous-batching engine in model time, behind the scheduler, for the figures of a policy."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from service.admission.limiter import Limiter, Targets
from service.admission.load_shedding import Refusal
from service.admission.queued_request import OUTPUT_PRICE, QueuedRequest
from service.admission.scheduler import Placement, Scheduler
from service.settings.admission import BackgroundSettings

CEILING = 32
STEP_S = 0.03
STEP_PER_SLOT_S = 0.0026
"""Close to 113 ms a token at 32 streams and 30 ms at one: the small CPU engine."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tenant that sends Poisson traffic; outputs are uniform in [1, `longest`]."""

    tenant: str
    per_second: float
    weight: float = 1.0
    prompt: int = 40
    longest: int = 60
    timeout: float = 20.0
    background: bool = False


@dataclass(slots=True)
class Report:
    """Results by tenant: cost served, seconds to the first token, refusals, good answers."""

    served: Counter[str] = field(default_factory=Counter)
    first_token: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: defaultdict[str, list[Refusal]] = field(default_factory=lambda: defaultdict(list))
    good_tokens: int = 0
    good: int = 0
    late: int = 0
    lost: int = 0
    """Runs that gave way to interactive requests."""


class BatchEngine:
    """Runs sources for a while; every step gives each running sequence one token.

    It runs `CEILING` sequences at most: others that the controller starts wait in it.
    Beyond `knee` sequences the engine's memory is full: each further one makes every step a quarter
    longer, because preempted sequences are computed again. `slowness` multiplies the steps' time,
    as other programs or a long prompt do; `step_per_slot` is what each sequence adds to a step.
    """

    def __init__(
        self,
        *sources: Source,
        max_wait: float = math.inf,
        knee: int = CEILING,
        targets: Targets | None = None,
        floor: int = 1,
        slowness: Callable[[float], float] = lambda _: 1.0,
        step_per_slot: float = STEP_PER_SLOT_S,
        background: BackgroundSettings | None = None,
    ) -> None:
        self._step_per_slot = step_per_slot
        self._knee = knee
        self._slowness = slowness
        self._max_wait = max_wait
        self._sources = sources
        self._random = Random(0)
        self._now = 0.0
        self._next = [self._random.expovariate(source.per_second) for source in sources]
        self._output: dict[QueuedRequest, int] = {}
        self._done: dict[QueuedRequest, int] = {}
        self.report = Report()
        self.scheduler = Scheduler(
            lambda: self._now,
            Limiter(CEILING, floor, targets),
            max_waiting=256,
            background=background,
        )

    def run(self, seconds: float) -> Report:
        """Advance the model by so many seconds; the report is that of all so far."""
        end = self._now + seconds
        while self._now < end:
            self._now += self._step_seconds()
            self._arrive()
            self._preempt()
            for request in self.batch():
                self._step(request)
            self._expire()
            self._dispatch()
            self._preempt()
        return self.report

    def batch(self) -> list[QueuedRequest]:
        """The sequences of the step that ends now, where it began with all that had come."""
        return list(self._done)[:CEILING]

    def pause(self) -> None:
        """Stop all sources."""
        self._next = [math.inf for _ in self._next]

    def _dispatch(self) -> None:
        for request in self.scheduler.next_dispatches():
            self._start(request)

    def _preempt(self) -> None:
        while named := self.scheduler.preempt():
            for request in named:
                self._begin_again(request)
            self._dispatch()

    def _begin_again(self, request: QueuedRequest) -> None:
        length = self._output[request]
        self._finish(request)
        again = replace(request, follows=True, again=True)
        self._output[again] = length
        self.report.lost += 1
        if self.scheduler.offer(again) is Placement.STARTED:
            self._start(again)

    def _step_seconds(self) -> float:
        running = min(len(self._done), CEILING)
        seconds = STEP_S + self._step_per_slot * running
        seconds *= self._slowness(self._now)
        return seconds * (1 + max(0, running - self._knee) / 4)

    def _arrive(self) -> None:
        for index, source in enumerate(self._sources):
            while self._next[index] <= self._now:
                self.offer(source, self._next[index])
                self._next[index] += self._random.expovariate(source.per_second)

    def offer(self, source: Source, arrival: float | None = None) -> None:
        """Let a request of the source come now, or at an arrival in the last step."""
        arrival = self._now if arrival is None else arrival
        request = QueuedRequest(
            tenant=source.tenant,
            prompt_tokens=source.prompt,
            max_output_tokens=source.longest,
            arrival=arrival,
            deadline=arrival + source.timeout,
            max_wait=self._max_wait,
            weight=source.weight,
            background=source.background,
            restartable=source.background,
        )
        self._output[request] = self._random.randint(1, source.longest)
        answer = self.scheduler.offer(request)
        if isinstance(answer, Refusal):
            del self._output[request]
            self.report.refused[request.tenant].append(answer)
        elif answer is Placement.STARTED:
            self._start(request)

    def _start(self, request: QueuedRequest) -> None:
        self._done[request] = 0
        self.report.served[request.tenant] += request.prompt_tokens

    def _step(self, request: QueuedRequest) -> None:
        done = self._done[request] = self._done[request] + 1
        if done == 1:
            self.report.first_token[request.tenant].append(self._now - request.arrival)
        self.scheduler.charge(request, cached=0, output=done)
        self.report.served[request.tenant] += round(OUTPUT_PRICE)
        if done == self._output[request]:
            self.report.good += 1
            self.report.good_tokens += done
            self._finish(request)

    def _finish(self, request: QueuedRequest) -> None:
        self.scheduler.finish(request)
        del self._output[request], self._done[request]

    def _expire(self) -> None:
        for request in self.scheduler.expire():
            self.report.late += 1
            if request in self._done:
                self._finish(request)
            else:
                del self._output[request]
