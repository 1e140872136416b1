"""The model card's section on a suite's figures."""

from collections.abc import Iterator

from evaluation.report import Metric, Report, TaskResult
from service.adapters.pack import table

_SURE = (0.5, 0.8, 1.0)


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
    return f"{told}\n\n{table(head, rows)}"


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
