"""Report of an evaluation: figures, verdicts and the data of its plots, as JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.bar import Bar, Verdict
from evaluation.choices import Chosen
from evaluation.estimate import Estimate
from evaluation.suite import Task
from service.classification.reliability import reliability_bins
from service.classification.selective import risk_coverage

_POINTS = 100


class _Part(BaseModel):
    # An interval without bounds is written as "-Infinity" and "Infinity": JSON has no such numbers.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Metric(_Part):
    """A metric of a task with its 95 % interval, and its bar's verdict if it has one."""

    name: str
    value: float
    low: float
    high: float
    lines: int
    method: str
    bar: str | None = None
    verdict: Verdict | None = None


class ReliabilityPoint(_Part):
    """Lines with a confidence within one of 15 bins."""

    confidence: float
    accuracy: float
    count: int


class RiskPoint(_Part):
    """The share of errors among the share `coverage` of the lines with the highest confidence."""

    coverage: float
    risk: float


class TaskResult(_Part):
    """A task's metrics, and the data of its plots if the task has confidences."""

    name: str
    kind: str
    about: str
    licence: str | None
    metrics: tuple[Metric, ...]
    reliability: tuple[ReliabilityPoint, ...] = ()
    risk: tuple[RiskPoint, ...] = ()


class Report(_Part):
    """An evaluation; `complete` is false if it was interrupted."""

    suite: str
    model: str
    url: str
    judge: str
    began: str
    seconds: float
    complete: bool
    tasks: tuple[TaskResult, ...]

    @property
    def failed(self) -> list[str]:
        """A sentence for each bar that does not stand."""
        return [
            f"{task.name}: {metric.name} is {metric.value:.4g} "
            f"({metric.low:.4g} to {metric.high:.4g}), the bar is {metric.bar}"
            for task in self.tasks
            for metric in task.metrics
            if metric.verdict is not None and not self.passes(metric)
        ]

    def passes(self, metric: Metric) -> bool:
        """True for a bar that stands by the rule that the suite's `judge` names."""
        return metric.verdict == "stands" or (
            metric.verdict == "undecided" and self.judge == "value"
        )


def task_result(
    task: Task, figures: Mapping[str, Estimate], chosen: Chosen | None = None
) -> TaskResult:
    """The result of a task, its metrics in the order of its kind."""
    plots: dict[str, Any] = {} if chosen is None else _plots(chosen)
    return TaskResult(
        name=task.name,
        kind=task.kind,
        about=task.about,
        licence=getattr(task, "licence", None),
        metrics=tuple(
            _metric(name, figures[name], task.bars) for name in task.measured() or figures
        ),
        **plots,
    )


def _metric(name: str, estimate: Estimate, bars: Mapping[str, str]) -> Metric:
    bar = bars.get(name)
    return Metric(
        name=name,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        lines=estimate.lines,
        method=estimate.method,
        bar=bar,
        verdict=None if bar is None else Bar.of(bar).verdict(estimate),
    )


def _plots(chosen: Chosen) -> dict[str, Any]:
    confidences, right = chosen.confidences, chosen.right
    coverage, risk = risk_coverage(confidences, right)
    rows = np.unique(np.linspace(0, len(right) - 1, _POINTS).round().astype(int))
    return {
        "reliability": tuple(
            ReliabilityPoint(confidence=b.confidence, accuracy=b.accuracy, count=b.count)
            for b in reliability_bins(confidences, right)
        ),
        "risk": tuple(RiskPoint(coverage=coverage[r], risk=risk[r]) for r in rows),
    }
