"""What is known of an answer beyond its tokens, for those who compare and rate versions."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.conformal_sets import ConformalSets


@dataclass(frozen=True, slots=True)
class FirstText:
    """Result of the first text of a classification."""

    labels: Sequence[str] = ()
    """Labels that the text was given, none if the answer abstained."""
    failed: bool = False
    score: float = 0.0
    """Probability of the best label, also if the answer abstained."""
    best: int | None = None
    """Place of the best label among the adapter's own.

    None for labels of the request and for labels that do not exclude each other.
    """
    label_set: Sequence[int] | None = None
    """Places of the labels in the text's label set, None without a conformal calibration."""
    conformal: ConformalSets | None = None
    """The conformal calibration that made the label set."""


@dataclass(slots=True)
class Answer:
    """The answer of a request: an extension of its record.

    `first_text` is the result of the first text that it had classified, `first_result` that of the
    text that was classified first, whichever it is.
    """

    first_text: FirstText | None = None
    first_result: FirstText | None = None
    structure_cut: bool | None = None
    """True if an answer of a requested structure was cut; None without such an answer."""
