"""An evaluation's report with figures, verdicts and plots: JSON, HTML, JUnit, a card's section."""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.choices import Chosen
from evaluation.estimate import Bar, Estimate, Verdict
from evaluation.suite import Task
from service.classification.reliability import reliability_bins, risk_coverage
from service.common.command_line import markdown_table

_POINTS = 100
_LEFT, _TOP, _SIZE = 46.0, 12.0, 240.0
"""Edges and size of the page's plots."""
_SURE = (0.5, 0.8, 1.0)


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
    """Lines whose confidence is in one of 15 bins."""

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
        """A sentence for each bar that is not met."""
        return [
            f"{task.name}: {_measured(metric)}, the bar is {metric.bar}"
            for task in self.tasks
            for metric in task.metrics
            if metric.verdict is not None and not self.passes(metric)
        ]

    def passes(self, metric: Metric) -> bool:
        """True if a bar is met by the rule that the suite's `judge` names."""
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


def render_page(report: Report) -> str:
    """The report as one HTML file that needs no network; its texts are escaped."""
    # Not at the top, so that other commands work without the extra.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("evaluation"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"across": _across, "up": _up}
    return environment.get_template("report.html").render(report=report)


def _across(share: float) -> float:
    """The place of a share of 0..1 from left to right."""
    return round(_LEFT + _SIZE * share, 1)


def _up(share: float) -> float:
    """The place of a share of 0..1 from the bottom up."""
    return round(_TOP + _SIZE * (1 - share), 1)


def junit_xml(report: Report) -> bytes:
    """The report in JUnit's XML: a suite for each task, whose test cases are its bars.

    The figures are the suites' properties. A run that was cut short has a test case in error.
    """
    root = ElementTree.Element("testsuites", name=report.suite, time=f"{report.seconds:.3f}")
    for task in report.tasks:
        barred = [metric for metric in task.metrics if metric.verdict is not None]
        failed = sum(not report.passes(metric) for metric in barred)
        suite = _test_suite(root, task.name, tests=len(barred), failures=failed)
        properties = ElementTree.SubElement(suite, "properties")
        for metric in task.metrics:
            ElementTree.SubElement(
                properties, "property", name=metric.name, value=f"{metric.value:.6g}"
            )
        for metric in barred:
            name = f"{metric.name} {metric.bar}"
            case = ElementTree.SubElement(suite, "testcase", classname=task.name, name=name)
            if not report.passes(metric):
                ElementTree.SubElement(case, "failure", message=_measured(metric))
    if not report.complete:
        suite = _test_suite(root, "run", tests=1, errors=1)
        case = ElementTree.SubElement(suite, "testcase", classname="run", name="complete")
        ElementTree.SubElement(case, "error", message="not every task was measured")
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _test_suite(
    root: ElementTree.Element, name: str, *, tests: int, failures: int = 0, errors: int = 0
) -> ElementTree.Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors)}
    return ElementTree.SubElement(root, "testsuite", {"name": name, **counts})


def _measured(metric: Metric) -> str:
    return f"{metric.name} is {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g})"


def card_title(report: Report) -> str:
    """Title of the section of a suite."""
    return f"Suite {report.suite}"


def suite_section(report: Report) -> str:
    """The figures of a report as Markdown, without a heading."""
    judged = "the whole interval meets" if report.judge == "interval" else "the value meets"
    head = ("task", "metric", "value", "95 % interval", "lines", "bar")
    rows = [row for task in report.tasks for row in _rows(task)]
    told = (
        f"Measured by `llm-service evaluate` on {report.began[:10]}; a bar stands if {judged} it."
    )
    return f"{told}\n\n{markdown_table(head, rows)}"


def _rows(task: TaskResult) -> Iterator[tuple[str, ...]]:
    name = task.name
    for metric in task.metrics:
        yield name, metric.name, f"{metric.value:.3g}", *_known(metric)
        name = ""
    if task.risk:
        errors = ", ".join(f"{_risk(task, share):.3g}" for share in _SURE)
        yield name, "errors of the surest 50, 80, 100 %", errors, "", "", ""


def _known(metric: Metric) -> tuple[str, str, str]:
    verdict = f"{metric.bar}: {metric.verdict}" if metric.bar else ""
    return f"{metric.low:.3g} to {metric.high:.3g}", str(metric.lines), verdict


def _risk(task: TaskResult, share: float) -> float:
    """The risk at the least coverage of the curve that reaches a share."""
    return next(each.risk for each in task.risk if each.coverage >= share - 1e-9)
