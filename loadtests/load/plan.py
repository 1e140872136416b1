"""The plan of a run: every arrival and its content, from the scenario's seed alone.

Each of the W processes of a distributed run computes the whole plan and sends every W-th arrival,
so that all of them together send exactly the plan.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loadtests.load.background import Neighbour
from loadtests.load.choice import pick_tenant
from loadtests.load.exact import Exact
from loadtests.load.scenario import ClosedLoad, OpenLoad, ReplayLoad, Scenario
from loadtests.load.stage import BESIDE, Stage
from loadtests.load.text import Message, Segment
from loadtests.load.traces import MOONCAKE_BLOCK, TraceRow, read_trace
from loadtests.load.workloads import Classify, Content, Decide, Session, Task, Workload, replayed

# Separate streams of random numbers, so that a new draw in one leaves the others unchanged.
_ARRIVALS, _CONTENT, _TURN, _NEIGHBOUR = range(4)

# A closed-loop user's k-th request has the index user * _PER_USER + k. Users of background work are
# counted from one, because planned arrivals have the indices below _PER_USER; a neighbour is the
# first.
_PER_USER = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request (or a session's first) that is due `at` seconds from the start.

    With `like` it has the lengths, tenant and model of that arrival, but other words.
    """

    index: int
    at: float
    stage: str
    row: TraceRow | None = None
    like: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, independent of the API that it is sent to."""

    index: int
    turn: int
    at: float
    stage: str
    workload: str
    tenant: str
    model: str
    task: Task = "generate"
    messages: tuple[Message, ...] = ()
    max_tokens: int = 0
    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    instruction: str = ""
    questions: int = 0
    cancel_after: int | None = None
    temperature: float = 0.0
    chat: bool = True
    extra: dict[str, Any] | None = None


class Plan:
    """The arrivals of a scenario and their requests; `base_model` is used without adapters."""

    def __init__(self, scenario: Scenario, base_model: str) -> None:
        self.scenario = scenario
        self.base_model = base_model
        self.arrivals = _arrivals(scenario)
        self._exact = Exact(scenario.tokenizer) if scenario.tokenizer else None

    def share(self, worker: int, workers: int) -> list[Arrival]:
        """The arrivals of one of `workers` processes, in order."""
        return self.arrivals[worker::workers]

    def offered(self) -> dict[str, int]:
        """The number of arrivals of each stage."""
        counts: dict[str, int] = {}
        for arrival in self.arrivals:
            counts[arrival.stage] = counts.get(arrival.stage, 0) + 1
        return counts

    def closed_arrival(self, user: int, count: int, at: float) -> Arrival:
        """The `count`-th request of a closed-loop user, sent `at` seconds from the start."""
        load = self.scenario.load
        assert isinstance(load, ClosedLoad)
        step = min(int(at // load.step_s), len(load.users) - 1)
        return Arrival(user * _PER_USER + count, at, f"{load.users[step]} users")

    def call(self, arrival: Arrival) -> Call:
        """The request of an arrival (of a session, the first)."""
        rng = self._rng(arrival.index if arrival.like is None else arrival.like)
        return self._call(arrival, self._workload(rng), rng)

    def neighbour_calls(self, worker: int, workers: int) -> list[Call]:
        """Calls of a neighbour by one of `workers` processes, in order; empty without one."""
        scenario = self.scenario
        work, load = scenario.beside, scenario.load
        if not isinstance(work, Neighbour) or not isinstance(load, OpenLoad):
            return []
        calls: list[Call] = []
        for number, stage in enumerate(scenario.stages):
            rng = np.random.default_rng((scenario.seed, _NEIGHBOUR, number))
            rate = work.rates[stage.name == BESIDE]
            for at in load.arrivals.scaled(rate / load.arrivals.rate).times(stage.seconds, rng):
                arrival = Arrival(_PER_USER + len(calls), stage.start + float(at), stage.name)
                call = self._call(arrival, work.workload, self._rng(arrival.index))
                calls.append(replace(call, tenant=work.tenant.name))
        return calls[worker::workers]

    def background_call(self, user: int, count: int, at: float) -> Call:
        """The `count`-th request of a background user, or line `count` of the batch."""
        assert self.scenario.beside is not None
        arrival = Arrival((user + 1) * _PER_USER + count, at, BESIDE)
        return self._call(arrival, self.scenario.beside.workload, self._rng(arrival.index))

    def _call(self, arrival: Arrival, workload: Workload, rng: np.random.Generator) -> Call:
        scenario = self.scenario
        tenant = pick_tenant(scenario.tenants, rng)
        model = scenario.adapters.pick(arrival.at, rng) if scenario.adapters else self.base_model
        cancel_after = None
        if workload.cancel is not None and rng.random() < workload.cancel.share:
            cancel_after = workload.cancel.after_chunks.sample(rng)
        content = self.content(arrival, workload, rng)
        classify = workload if isinstance(workload, Classify) else None
        return Call(
            index=arrival.index,
            turn=0,
            at=arrival.at,
            stage=arrival.stage,
            workload=workload.label,
            tenant=tenant.name,
            model=model,
            task=workload.task,
            messages=self._messages(content),
            max_tokens=content.max_tokens,
            inputs=tuple(self._text((segment,)) for segment in content.inputs),
            labels=classify.labels if classify else (),
            instruction=classify.instruction if classify else "",
            questions=workload.questions if isinstance(workload, Decide) else 0,
            cancel_after=cancel_after,
            temperature=scenario.temperature,
            chat=scenario.template == "chat",
            extra=workload.extra,
        )

    def content(self, arrival: Arrival, workload: Workload, rng: np.random.Generator) -> Content:
        """The segments of an arrival's prompt, from its workload or from the trace."""
        seed, index, row = self.scenario.seed, arrival.index, arrival.row
        if row is None:
            return workload.content(seed, index, rng)
        load = self.scenario.load
        assert isinstance(load, ReplayLoad)
        tokens = max(1, round(row.input_tokens * load.scale))
        block = max(1, round(MOONCAKE_BLOCK * load.scale))
        prompt = replayed(seed, index, tokens, row.blocks, block)
        return Content(user=prompt.user, max_tokens=max(1, round(row.output_tokens * load.scale)))

    def next_turn(self, call: Call, answer: str, ended_at: float) -> Call | None:
        """The next request of a session, due after the user's pause; None when it is over."""
        workloads = {each.label: each for each in self.scenario.workloads}
        workload = workloads.get(call.workload)
        if not isinstance(workload, Session):
            return None
        seed, turn = self.scenario.seed, call.turn + 1
        turns = workload.turns.sample(np.random.default_rng((seed, _TURN, call.index)))
        if turn >= turns:
            return None
        rng = np.random.default_rng((seed, _TURN, call.index, turn))
        words = self._text((workload.next_words(seed, call.index, turn, rng),))
        return replace(
            call,
            turn=turn,
            at=ended_at + workload.think_s,
            messages=(*call.messages, Message("assistant", answer), Message("user", words)),
            max_tokens=workload.output.sample(rng),
        )

    def _messages(self, content: Content) -> tuple[Message, ...]:
        pairs = (("system", content.system), ("user", content.user))
        made = tuple(Message(role, self._text(segments)) for role, segments in pairs if segments)
        return made + content.messages

    def _text(self, segments: tuple[Segment, ...]) -> str:
        text = "\n".join(segment.text() for segment in segments)
        if self._exact is None:
            return text
        return self._exact.fit(text, sum(segment.tokens for segment in segments))

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.scenario.seed, _CONTENT, index))

    def _workload(self, rng: np.random.Generator) -> Workload:
        workloads = self.scenario.workloads
        cumulative = np.cumsum([workload.weight for workload in workloads])
        position = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
        return workloads[int(position)]


def _arrivals(scenario: Scenario) -> list[Arrival]:
    match scenario.load:
        case OpenLoad() as load:
            return _open_arrivals(load, scenario.stages, scenario.seed)
        case ReplayLoad() as load:
            rows = read_trace(load.path, load.format, load.limit)
            return [
                Arrival(index, row.at / load.speed, "replay", row)
                for index, row in enumerate(rows)
                if row.at / load.speed < load.duration_s
            ]
        case ClosedLoad():
            return []


def _open_arrivals(load: OpenLoad, stages: tuple[Stage, ...], seed: int) -> list[Arrival]:
    """The arrivals of every stage; those beside background work repeat those without it."""
    arrivals: list[Arrival] = []
    for number, stage in enumerate(stages):
        beside = stage.name == BESIDE
        rng = np.random.default_rng((seed, _ARRIVALS, number - beside))
        times = load.arrivals.scaled(stage.factor).times(stage.seconds, rng)
        first = len(arrivals)
        for index, at in enumerate(times, first):
            like = index - len(times) if beside else None
            arrivals.append(Arrival(index, stage.start + float(at), stage.name, like=like))
    return arrivals
