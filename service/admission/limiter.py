"""The limit on sequences that the engine runs at once, and the rates that decide it."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from service.admission.queued_request import QueuedRequest, Usage

_SAMPLES = 256
_ENOUGH = 8
_STEPS = 32
_MOST_CUT = 0.5
_TELLING_CUT = 0.2
_TELLING_GAIN = 0.5
_LEAST_RATE = 0.7
_HOLD_WINDOWS = (30, 480)
_WORSE = 1.5


@dataclass(frozen=True, slots=True)
class Targets:
    """Times that a healthy engine stays below, and the time between decisions, in seconds.

    `token` is the time per output token of one sequence, `engine_wait` the time that a request
    waits inside the engine before its first step, `window` the time between two decisions.
    """

    token: float = 0.2
    engine_wait: float = 0.5
    window: float = 1.0


@dataclass(frozen=True, slots=True)
class _Trial:
    """The state before a cut that is on trial: the limit, the slots in use and the delay."""

    limit: float
    used: float
    delay: float


class Limiter:
    """Additive increase, multiplicative decrease on delay, in [floor, ceiling].

    The limit is the ceiling, the engine's configured maximum, unless requests crowd: a lower one
    would only move their wait from the engine to the queue. In a crowd the rule is Breakwater's
    (Cho et al., OSDI 2020): above the target the limit shrinks in proportion to the excess, at most
    by half; below it the limit grows by a step. Larger steps would start many prompts at once,
    which all wait for the last. There are two delays, the token time and the engine wait; each is
    divided by its target, and the larger ratio counts. Medians over a window keep a few slow
    readers or one long stall from changing the limit for all.

    A cut is carried out as sequences end: of the slots that they give back, the proportion that is
    kept may be taken again (proportional rate reduction, RFC 6937, for TCP). Otherwise nothing
    would start until enough had ended, and what then waits would be late. A cut by half holds at
    once: the engine is far from its target.

    A cut is a trial. It makes an overcrowded engine faster; an engine that is slow for another
    reason (other processes use its cores, a long prompt is computed) only does less work. Once a
    fifth fewer slots are in use, the cut is undone if the delay has fallen by less than half the
    proportion of the cut, or if throughput is below 0.7 of its maximum since the delay rose above
    the target. All cuts are undone if the delay stays above its target even at the floor. The next
    cut comes 30 windows later (this number doubles after each failed cut) or when the delay has
    grown by half. Decision 9 (docs/decisions/0009-limits-and-refusals.md) gives the reasons, also
    against a gradient limiter.

    A floor above the ceiling counts as the ceiling.
    """

    def __init__(self, ceiling: int, floor: int = 1, targets: Targets | None = None) -> None:
        self.targets = targets or Targets()
        self._floor = floor
        self._ceiling = ceiling
        self._limit = float(ceiling)
        self._reduced = 0.0
        self._reduction = 0.0
        self._since: float | None = None
        self._tokens: deque[float] = deque(maxlen=_SAMPLES)
        self._waits: deque[float] = deque(maxlen=_SAMPLES)
        self._looked = 0.0
        self._in_use = 0
        self._used_seconds = 0.0
        self._trial: _Trial | None = None
        self._most_work = 0.0
        self._hold = _HOLD_WINDOWS[0]
        self._held_until = 0.0
        self._held_delay = 0.0

    @property
    def floor(self) -> int:
        """The smallest possible limit."""
        return min(self._floor, self._ceiling)

    @property
    def ceiling(self) -> int:
        """The largest possible limit; setting it moves the limit there."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, sequences: int) -> None:
        self._ceiling = sequences
        self._limit, self._reduced = float(sequences), 0.0

    @property
    def limit(self) -> int:
        """Sequences that the engine should run."""
        return int(self._limit)

    @property
    def slots(self) -> int:
        """Sequences that may run now: the limit, or more while a cut of it is carried out."""
        return max(self.limit, min(int(self._reduced), self._ceiling))

    def release(self, slots: int) -> None:
        """Count slots that ended sequences give back, of which a cut takes its proportion."""
        self._reduced -= slots * self._reduction

    def record_token_time(self, seconds: float) -> None:
        """Record the time per output token of one sequence."""
        self._tokens.append(seconds)

    def record_engine_wait(self, seconds: float) -> None:
        """Record how long the engine held a request before its first step."""
        self._waits.append(seconds)

    def update(self, now: float, in_use: int, *, crowded: bool) -> None:
        """Decide once a window, given the slots taken and whether requests crowd.

        A window with fewer than eight samples continues without a decision.
        """
        if self._since is None:
            self._since = self._looked = now
        self._used_seconds += self._in_use * (now - self._looked)
        self._looked, self._in_use = now, in_use
        passed = now - self._since
        if passed < self.targets.window:
            return
        if not crowded:
            self._limit, self._trial, self._most_work = float(self._ceiling), None, 0.0
        elif len(self._tokens) + len(self._waits) >= _ENOUGH:
            self._decide(now, self._used_seconds / passed)
        else:
            return
        self._since, self._used_seconds = now, 0.0
        self._tokens.clear()
        self._waits.clear()

    def _decide(self, now: float, used: float) -> None:
        delay = max(
            self._delay(self._tokens, self.targets.token),
            self._delay(self._waits, self.targets.engine_wait),
        )
        self._most_work = max(self._most_work, used / delay) if delay > 1 else 0.0
        if self._trial is not None and used <= (1 - _TELLING_CUT) * self._trial.used:
            self._trial = self._judge(self._trial, now, used, delay)
        if delay <= 1:
            self._trial, self._hold, self._held_until = None, _HOLD_WINDOWS[0], now
            self._limit += max(1.0, self._ceiling / _STEPS)
        elif self._in_use > self._floor:
            if self._may_cut(now, delay):
                self._cut(used, delay)
        elif self._limit <= self._floor and now >= self._held_until:
            self._take_back(self._ceiling, now, delay)
        self._limit = min(max(self._limit, self._floor), self._ceiling)

    def _may_cut(self, now: float, delay: float) -> bool:
        # Sequences still run above a lowered limit, so the cut's effect is not known yet.
        settled = self._trial is None or self._in_use <= self._limit
        return settled and (now >= self._held_until or delay > _WORSE * self._held_delay)

    def _judge(self, trial: _Trial, now: float, used: float, delay: float) -> _Trial | None:
        """Judge the last cut: returns a new trial for the next one, or None after taking it back.

        Work (throughput) is estimated as slots in use divided by the delay.
        """
        gain, cut = 1 - delay / trial.delay, 1 - used / trial.used
        if gain >= _TELLING_GAIN * cut and used >= _LEAST_RATE * self._most_work * delay:
            return _Trial(self._limit, used, delay)
        self._take_back(trial.limit, now, delay)
        return None

    def _take_back(self, limit: float, now: float, delay: float) -> None:
        self._limit, self._trial = limit, None
        self._held_until, self._held_delay = now + self._hold * self.targets.window, delay
        self._hold = min(2 * self._hold, _HOLD_WINDOWS[1])

    def _cut(self, used: float, delay: float) -> None:
        if self._trial is None:
            self._trial = _Trial(self._limit, used, delay)
        kept = max(1 - (delay - 1) / 2, _MOST_CUT)
        # The samples are of all sequences that ran in the window, also of those that have ended.
        self._limit = min(self._limit, used * kept)
        self._reduced = 0.0
        if kept > _MOST_CUT and self._in_use > self._limit:
            self._reduced, self._reduction = self._in_use, 1 - self._limit / self._in_use

    @staticmethod
    def _delay(samples: deque[float], target: float) -> float:
        return median(samples) / target if samples else 0.0


_SPAN_S = 10.0
_SPAN_SAMPLES = 64.0


class DecayedRatio:
    """A ratio of two exponentially decayed sums: a value `span` in the past weighs 1/e.

    A quotient of exponentially weighted sums has no start-up bias, unlike an average that starts
    from zero or from its first sample.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._amount = 0.0
        self._per = 0.0

    def add(self, amount: float, per: float, age: float) -> None:
        """Age the sums by `age` and add `amount` to the numerator and `per` to the denominator."""
        keep = math.exp(-age / self._span) if age else 1.0
        self._amount = self._amount * keep + amount
        self._per = self._per * keep + per

    @property
    def value(self) -> float | None:
        """The ratio; None as long as nothing was measured."""
        return self._amount / self._per if self._per > 0 else None


class Rates:
    """The engine's rates; those per second are measured only while every slot is taken.

    With free slots the served rate would show the demand, not what the engine can serve.
    """

    def __init__(self) -> None:
        self._service = DecayedRatio(_SPAN_S)
        self._releases = DecayedRatio(_SPAN_S)
        self._prefill = DecayedRatio(_SPAN_SAMPLES)
        self._token = DecayedRatio(_SPAN_SAMPLES)

    def pass_time(self, seconds: float) -> None:
        """Let time pass with every slot taken.

        A gap longer than the span counts as one span, so that a suspended machine does not look
        slow for long.
        """
        seconds = min(seconds, _SPAN_S)
        self._service.add(0.0, seconds, seconds)
        self._releases.add(0.0, seconds, seconds)

    def count_service(self, cost: float) -> None:
        """Count work served while every slot was taken."""
        self._service.add(cost, 0.0, 0.0)

    def count_release(self, slots: float) -> None:
        """Count released slots, weighted by the share of their time with every slot taken."""
        self._releases.add(slots, 0.0, 0.0)

    def count_prefill(self, tokens: int, seconds: float) -> None:
        """Count a prompt: its uncached tokens and the time from its start to its first token."""
        if tokens > 0:
            self._prefill.add(seconds, tokens, 1.0)

    def count_decode(self, tokens: float, seconds: float) -> None:
        """Count tokens of one sequence and the time they took."""
        self._token.add(seconds, tokens, 1.0)

    @property
    def service(self) -> float | None:
        """Cost served per second while every slot is taken."""
        return self._service.value

    @property
    def releases(self) -> float | None:
        """Slots released per second while every slot is taken."""
        return self._releases.value

    @property
    def prefill_seconds(self) -> float:
        """Seconds to the first token, per uncached prompt token; 0 while unknown."""
        return self._prefill.value or 0.0

    @property
    def token_seconds(self) -> float:
        """Seconds per output token of one sequence; 0 while unknown."""
        return self._token.value or 0.0


class _Instant(NamedTuple):
    """A point in time, and the total seconds until then in which every slot was taken."""

    at: float
    full: float


@dataclass(slots=True)
class _Run:
    started: float
    charged: _Instant
    unserved: float
    seen: float
    usage: Usage
    full_part: float = 0.0


class RunningRequests:
    """The running requests of both classes.

    Times are seconds of the scheduler's clock. `rates` gets every measurement here except the
    service, which the caller counts once for all requests of a step. Raises KeyError for a request
    that does not run.
    """

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._runs: dict[QueuedRequest, _Run] = {}
        self._now = _Instant(now, 0.0)
        self._full = False

    def tick(self, now: float, *, full: bool) -> None:
        """Advance the clock; `full` says whether every slot was taken since the last call."""
        full_seconds = self._now.full
        if full:
            passed = now - self._now.at
            self._rates.pass_time(passed)
            full_seconds += passed
        self._now = _Instant(now, full_seconds)
        self._full = full

    def start(self, request: QueuedRequest, usage: Usage) -> None:
        """Begin a request, whose prompt counts as served with its first charge.

        `usage` is the queue's count of its tokens, which changes as the request runs.
        """
        now = self._now
        self._runs[request] = _Run(now.at, now, usage.cost, now.at, usage)

    def charge(self, request: QueuedRequest, cost: float) -> float:
        """Charge a request's latest cost; returns the part of it that a full engine served.

        That part is the share of the time since the last charge in which every slot was taken.
        Whether the engine is full at this instant would not do: sequences of one batch are charged
        and end one directly after the other, so only the first would find it full. Nor would the
        share of the request's whole life: a slot given back soon after the engine became full would
        count for little, and the next one would seem to take minutes.
        """
        run = self._runs[request]
        if self._now.at > run.charged.at or not run.full_part:
            run.full_part = self._full_part(run.charged)
        cost += run.unserved
        run.unserved = 0.0
        run.charged = self._now
        return cost * run.full_part

    def time_tokens(self, request: QueuedRequest, tokens: int) -> float | None:
        """Time new output tokens, counted already; returns the seconds per token of one sequence.

        The first tokens time the prefill instead. None for these, for no tokens, and if no time
        passed.
        """
        run = self._runs[request]
        if not tokens:
            return None
        seconds, took = None, self._now.at - run.seen
        if run.usage.output == tokens:
            self._rates.count_prefill(request.prompt_tokens - run.usage.cached, took)
        elif took > 0:
            of_each = tokens / request.slots
            self._rates.count_decode(of_each, took)
            seconds = took / of_each
        run.seen = self._now.at
        return seconds

    def finish(self, request: QueuedRequest) -> None:
        """End a request after its last charge; one without an answer times its prompt."""
        run = self._runs.pop(request)
        self._rates.count_release(request.slots * run.full_part)
        if request.max_output_tokens == 0:
            uncached = request.prompt_tokens - run.usage.cached
            self._rates.count_prefill(uncached, self._now.at - run.started)

    def _full_part(self, since: _Instant) -> float:
        """The share of the time since `since` in which every slot was taken."""
        passed = self._now.at - since.at
        return (self._now.full - since.full) / passed if passed > 0 else float(self._full)
