"""Compares a load without and with background work, and reports the work's own throughput."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.batch_outcome import BatchOutcome
from loadtests.analysis.run import Run
from loadtests.analysis.summary import Summary, summarize
from loadtests.analysis.throughput import Window
from loadtests.load.background import Neighbour, Slowdown
from loadtests.load.stage import ALONE, BESIDE

# The judged latencies: the field of their limit, the metric, and their name in a sentence.
_JUDGED = (("ttft_p95", "ttft_due", "TTFT p95"), ("tpot_p95", "tpot", "TPOT p95"))


class Ratio(BaseModel):
    """A percentile (in seconds) alone and beside background work; null with too few requests."""

    model_config = ConfigDict(extra="forbid")

    name: str
    alone: float | None
    beside: float | None
    limit: float

    @property
    def ratio(self) -> float | None:
        if self.alone is None or self.beside is None:
            return None
        return self.beside / self.alone


class Beside(BaseModel):
    """Ratios of the load's latencies with background work to those without;

    the work's own numbers. `requests` has the numbers of background users, `batch` those of a
    batch; one of them is null. `lines_per_s` is the rate of the batch's answered lines during its
    stage. `rates` are a neighbour's request rates in both halves of the run, and `tolerated` the
    outcomes allowed for its requests.
    """

    model_config = ConfigDict(extra="forbid")

    workload: str
    ratios: list[Ratio]
    stage_end: float
    requests: Summary | None
    batch: BatchOutcome | None
    lines_per_s: float | None
    rates: tuple[float, float] | None = None
    tolerated: tuple[str, ...] = ()

    def doubts(self) -> list[str]:
        """Reasons why the run says little about background work."""
        found = [f"{each.name}: too few requests" for each in self.ratios if each.ratio is None]
        if self.batch and self.batch.ended is not None and self.batch.ended < self.stage_end:
            early = self.stage_end - self.batch.ended
            found.append(
                f"the batch ended {early:.0f} s before its stage: set beside.lines to more than "
                f"{self.batch.lines}"
            )
        return found

    def failures(self) -> list[str]:
        """Failures of the background work, such as missing answers."""
        if self.batch is not None:
            return self.batch.failures()
        assert self.requests is not None
        sent = sum(self.requests.outcomes.values())
        harmless = {"ok", *self.tolerated}
        lost = {
            name: count for name, count in self.requests.outcomes.items() if name not in harmless
        }
        if not sent:
            return [f"no request of {self.workload} was sent"]
        if lost:
            named = ", ".join(f"{count} {name}" for name, count in lost.items())
            return [f"of {sent} requests of {self.workload} not all were answered: {named}"]
        return []

    def slower(self) -> list[str]:
        """A sentence for each percentile beyond its limit."""
        return [
            f"{each.name} is {each.ratio:.2f} times that without {self.workload}, at most "
            f"{each.limit:g} is wanted"
            for each in self.ratios
            if each.ratio is not None and each.ratio > each.limit
        ]


def judge_beside(run: Run, stages: Sequence[Summary]) -> Beside | None:
    """Compare the two halves of a run with background work, from the summaries of its stages."""
    work = run.scenario.beside
    if work is None:
        return None
    half = next(stage for stage in run.scenario.stages if stage.name == BESIDE)
    own = [record for record in run.in_background() if record.stage == BESIDE]
    window = Window(half.start, half.end)
    return Beside(
        workload=work.label,
        ratios=_ratios(stages, work.slowdown),
        stage_end=half.end,
        requests=None if run.batch else summarize(work.label, own, own, window, None),
        batch=run.batch,
        lines_per_s=run.batch.lines_per_s(half.end) if run.batch else None,
        rates=work.rates if isinstance(work, Neighbour) else None,
        tolerated=run.scenario.tolerate if isinstance(work, Neighbour) else (),
    )


def _ratios(stages: Sequence[Summary], limits: Slowdown) -> list[Ratio]:
    named = {stage.name: stage for stage in stages}

    def p95(half: str, metric: str) -> float | None:
        found = named[half].latency.get(metric) if half in named else None
        return found.p95 if found else None

    return [
        Ratio(
            name=name,
            alone=p95(ALONE, metric),
            beside=p95(BESIDE, metric),
            limit=getattr(limits, field),
        )
        for field, metric, name in _JUDGED
    ]
