"""The model card's section on the probability that an answer is right."""

from collections.abc import Sequence

from service.adapters.card import table
from service.adapters.confidence import ConfidenceMap

CARD_TITLE = "Confidence"


def confidence_section(fitted: ConfidenceMap) -> str:
    """The map's figures as Markdown, without a heading."""
    figures, risk = fitted.figures, fitted.risk_control
    raw = (f"{figures.auroc_mean_logprob:.3f}", f"{figures.log_loss_mean_logprob:.3f} by its map")
    surest = figures.accuracy
    rows = [
        ("AUROC", f"{figures.auroc:.3f}", raw[0]),
        ("log loss, nats", f"{figures.log_loss:.3f}", raw[1]),
        ("calibration error (ECE)", f"{figures.ece:.3f}", ""),
        ("area under risk and coverage (AURC)", f"{figures.aurc:.4f}", ""),
        *(
            (f"accuracy of the surest {share} %", f"{accuracy:.3f}", "")
            for share, accuracy in ((50, surest.at_50), (80, surest.at_80), (100, surest.at_100))
        ),
    ]
    parts = [
        f"The probability `p_correct`, measured on {figures.lines} held-out lines "
        f"({figures.cut} more were cut), each by a map that was fitted without its fold. "
        f"{figures.base_risk:.1%} of the answers were wrong.",
        table(("", "map", "mean log-probability"), rows),
        _promise(fitted),
        f"At least {risk.least_abstention:.1%} must be withheld, by whatever rule, if at most "
        f"{risk.alpha:.1%} of the answers given are to be wrong.",
    ]
    if figures.risk:
        parts.append(_risk_diagram(figures.risk))
    if figures.reliability:
        bins = [
            (f"{each.confidence:.3f}", f"{each.accuracy:.3f}", str(each.count))
            for each in figures.reliability
        ]
        parts.append(table(("mean p_correct", "share that is right", "lines"), bins))
    return "\n\n".join(parts)


def _promise(fitted: ConfidenceMap) -> str:
    risk = fitted.risk_control
    if risk.threshold is None:
        return (
            f"No `min_confidence` is shown to keep wrong answers at {risk.alpha:.1%} of requests."
        )
    return (
        f"With a `min_confidence` of {risk.threshold:.3f} at most {risk.alpha:.1%} of requests get "
        "a wrong answer."
    )


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
