"""Figures of answers that are one of several labels, and of gaps between groups or noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.estimate import Estimate, Rows, mean, resampled, share
from service.classification.calibration import Array
from service.classification.reliability import area, expected_calibration_error


@dataclass(frozen=True, slots=True)
class Reading:
    """Probabilities of labels for one text, which sum to 1, and whether the service abstained."""

    probs: Mapping[str, float]
    abstained: bool = False

    @property
    def said(self) -> str:
        """The most likely label."""
        return max(self.probs, key=lambda label: self.probs[label])


@dataclass(frozen=True, slots=True)
class Chosen:
    """Readings of lines with their true labels; an abstention counts as its best label."""

    readings: Sequence[Reading]
    truth: Sequence[str]

    @property
    def right(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """True for each line whose best label is the true one."""
        pairs = zip(self.readings, self.truth, strict=True)
        return np.array([reading.said == truth for reading, truth in pairs])

    @property
    def confidences(self) -> Array:
        """The best label's probability for each line."""
        return np.array([min(each.probs[each.said], 1.0) for each in self.readings])


def choice_figures(chosen: Chosen) -> dict[str, Estimate]:
    """Accuracy, ECE (15 bins), Brier score (Brier 1950, summed over labels, 0..2) and AURC."""
    right, confidences, lines = chosen.right, chosen.confidences, len(chosen.truth)
    brier = np.array([_brier(*each) for each in zip(chosen.readings, chosen.truth, strict=True)])
    return {
        "accuracy": share(int(right.sum()), lines),
        "ece": resampled(lambda r: expected_calibration_error(confidences[r], right[r]), lines),
        "brier": mean(brier),
        "aurc": resampled(lambda r: area(confidences[r], right[r]), lines),
    }


def decision_figures(chosen: Chosen) -> dict[str, Estimate]:
    """The figures of choices, and the share of lines on which the service abstained."""
    abstained = sum(each.abstained for each in chosen.readings)
    return {**choice_figures(chosen), "abstention": share(abstained, len(chosen.truth))}


def classification_figures(chosen: Chosen) -> dict[str, Estimate]:
    """The figures of decisions, and macro-F1."""
    said = np.array([each.said for each in chosen.readings])
    truth = np.array(chosen.truth)
    macro = resampled(lambda rows: macro_f1(said, truth, rows), len(truth))
    return {**decision_figures(chosen), "macro_f1": macro}


def macro_f1(said: np.ndarray, truth: np.ndarray, rows: Rows) -> float:
    """The unweighted mean F1 of the labels that occur as a true label or as an answer."""
    said, truth = said[rows], truth[rows]
    scores = []
    for label in set(said.tolist()) | set(truth.tolist()):
        hits = int(((said == label) & (truth == label)).sum())
        scores.append(2 * hits / int((said == label).sum() + (truth == label).sum()))
    return sum(scores) / len(scores)


def _brier(reading: Reading, truth: str) -> float:
    return sum((prob - (label == truth)) ** 2 for label, prob in reading.probs.items())


Sides = Sequence[Sequence[Reading]]
"""Readings of templates, each under all names of one group."""


def bias_figures(first: Sides, second: Sides, label: str) -> dict[str, Estimate]:
    """The gap between two groups, and the share of templates whose best label differs.

    The gap is the label's mean probability under the first group minus that under the second. Both
    figures compare readings of the same template, so differences between templates do not count.
    """
    ours, theirs = [_merged(each) for each in first], [_merged(each) for each in second]
    pairs = list(zip(ours, theirs, strict=True))
    flips = sum(a.said != b.said for a, b in pairs)
    return {
        "gap": mean(np.array([a.probs[label] - b.probs[label] for a, b in pairs])),
        "flips": share(flips, len(pairs)),
    }


def robustness_figures(clean: Chosen, noisy: Mapping[str, Chosen]) -> dict[str, Estimate]:
    """Accuracy that each kind of noise costs (above 0 for a loss), paired by line."""
    right = clean.right.astype(float)
    return {f"{name}_loss": mean(right - chosen.right) for name, chosen in noisy.items()}


def _merged(readings: Sequence[Reading]) -> Reading:
    labels = readings[0].probs
    return Reading(
        {label: sum(r.probs[label] for r in readings) / len(readings) for label in labels}
    )
