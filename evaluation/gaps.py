"""Gaps between two readings of the same line: of two groups, or of a text and its noisy form."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.choices import Chosen, Reading
from evaluation.estimate import Estimate, mean, share

Sides = Sequence[Sequence[Reading]]
"""Readings of templates, each under all names of one group."""


def bias_figures(first: Sides, second: Sides, label: str) -> dict[str, Estimate]:
    """The gap between two groups, and the share of templates that get another best label.

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
    """Accuracy that is lost by each noise (above 0 for a loss), paired by line."""
    right = clean.right.astype(float)
    return {f"{name}_loss": mean(right - chosen.right) for name, chosen in noisy.items()}


def _merged(readings: Sequence[Reading]) -> Reading:
    labels = readings[0].probs
    return Reading(
        {label: sum(r.probs[label] for r in readings) / len(readings) for label in labels}
    )
