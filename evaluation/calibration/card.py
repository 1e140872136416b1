"""The model card's section on the probability that an answer is right."""

from collections.abc import Sequence

from service.adapters.confidence import (
    ConfidenceFigures,
    ConfidenceMap,
    FittedMap,
    SelectiveAccuracy,
)
from service.common.command_line import markdown_table

CARD_TITLE = "Confidence"


def confidence_section(fitted: ConfidenceMap) -> str:
    """The maps' figures as Markdown, without a heading."""
    figures, compared = fitted.figures, fitted.agreement
    columns = [("map", _column(figures)), ("mean log-probability", _raw_column(figures))]
    if compared is not None:
        columns.insert(1, ("map with agreement", _column(compared.figures)))
    heads, values = zip(*columns, strict=True)
    risk = fitted.risk_control
    parts = [
        f"The probability `p_correct`, measured on {figures.lines} held-out lines "
        f"({figures.cut} more were cut), each by a map that was fitted without its fold. "
        f"{figures.base_risk:.1%} of the answers were wrong.",
        markdown_table(("", *heads), zip(_ROWS, *values, strict=True)),
        f"At least {risk.least_abstention:.1%} must be withheld, by whatever rule, if at most "
        f"{risk.alpha:.1%} of the answers given are to be wrong.",
        *_promise_and_diagrams(fitted),
    ]
    if compared is not None:
        drawn = compared.siblings
        parts += [
            f"With `agreement` a request samples {drawn.samples} more answers at temperature "
            f"{drawn.temperature:g}:",
            *_promise_and_diagrams(compared),
        ]
    return "\n\n".join(parts)


_ROWS = (
    "AUROC",
    "log loss, nats",
    "calibration error (ECE)",
    "area under risk and coverage (AURC)",
    *(f"accuracy of the surest {share} %" for share in (50, 80, 100)),
)


def _column(figures: ConfidenceFigures) -> list[str]:
    return [
        f"{figures.auroc:.3f}",
        f"{figures.log_loss:.3f}",
        f"{figures.ece:.3f}",
        f"{figures.aurc:.4f}",
        *_surest(figures.accuracy),
    ]


def _raw_column(figures: ConfidenceFigures) -> list[str]:
    ece, aurc = figures.ece_mean_logprob, figures.aurc_mean_logprob
    return [
        f"{figures.auroc_mean_logprob:.3f}",
        f"{figures.log_loss_mean_logprob:.3f} by its map",
        "" if ece is None else f"{ece:.3f}",
        "" if aurc is None else f"{aurc:.4f}",
        *_surest(figures.accuracy_mean_logprob),
    ]


def _surest(accuracy: SelectiveAccuracy | None) -> list[str]:
    if accuracy is None:
        return [""] * 3
    return [f"{each:.3f}" for each in (accuracy.at_50, accuracy.at_80, accuracy.at_100)]


def _promise_and_diagrams(fitted: FittedMap) -> list[str]:
    risk, figures = fitted.risk_control, fitted.figures
    share = f"{risk.alpha:.1%} of requests"
    if risk.threshold is None:
        parts = [f"No `min_confidence` is shown to keep wrong answers at {share}."]
    else:
        least = f"With a `min_confidence` of {risk.threshold:.3f}"
        parts = [f"{least} at most {share} get a wrong answer."]
    if figures.risk:
        parts.append(_risk_diagram(figures.risk))
    if figures.reliability:
        bins = [
            (f"{each.confidence:.3f}", f"{each.accuracy:.3f}", str(each.count))
            for each in figures.reliability
        ]
        parts.append(markdown_table(("mean p_correct", "share that is right", "lines"), bins))
    return parts


def _risk_diagram(risk: Sequence[float]) -> str:
    """Errors by coverage, as a diagram in Mermaid."""
    shares = ", ".join(str(100 * each // len(risk)) for each in range(1, len(risk) + 1))
    return (
        "```mermaid\nxychart-beta\n"
        '  title "Errors by coverage"\n'
        f'  x-axis "surest answers, %" [{shares}]\n'
        '  y-axis "share that is wrong"\n'
        f"  line [{', '.join(map(str, risk))}]\n```"
    )
