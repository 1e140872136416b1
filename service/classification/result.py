"""One classification result, assembled from the labels' log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.classification.conformal import label_sets
from service.classification.distribution import Array
from service.engine.conformal_sets import ConformalSets
from service.errors import InvalidRequest

MULTI_LABEL_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Options of the result, set by the caller and by the adapter.

    `multi_label`: the probabilities are of independent yes/no questions, not of one distribution.
    `top_k`: list at most this many scores, the best. `threshold`: the lowest score with which a
    label is given as the answer. `conformal`: the label sets to give.

    Raises InvalidRequest for a `top_k` below 1 or a `threshold` outside 0..1. Raises ValueError if
    conformal sets have one threshold and `multi_label` is true, because they assume one true label,
    or if they have a threshold for each label and it is false.
    """

    multi_label: bool = False
    top_k: int | None = None
    threshold: float | None = None
    conformal: ConformalSets | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InvalidRequest(f"top_k: must be at least 1, got {self.top_k}.", param="top_k")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InvalidRequest(
                f"threshold: must be between 0 and 1, got {self.threshold}.", param="threshold"
            )
        if self.conformal and isinstance(self.conformal.least, tuple) != self.multi_label:
            raise ValueError("conformal sets: one threshold a label with multi-label probabilities")


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one input.

    `label` is the best label, or None when the answer abstains; `score` is the best score either
    way. `scores` come best first, equal ones in the order of the label set; `probs` holds every
    label's probability in that order. `label_set`, best first, holds the labels not ruled out at
    the adapter's conformal coverage, or with `multi_label` the labels that apply; else it is None.
    With `multi_label` the labels not ruled out are `conformal_set`.
    """

    label: str | None
    score: float
    scores: tuple[LabelScore, ...]
    probs: tuple[float, ...]
    label_set: tuple[str, ...] | None
    abstained: bool
    conformal_set: tuple[str, ...] | None = None


def given_labels(result: Classification, *, multi_label: bool) -> tuple[str, ...]:
    """The labels that an answer gives: the best one, or all that apply; none if it abstains."""
    if result.label is None:
        return ()
    several = result.label_set if multi_label else None
    return several or (result.label,)


def assemble(names: Sequence[str], log_probs: Array, options: ResultOptions) -> Classification:
    """The answer for one input: `log_probs` holds one calibrated log-probability per name.

    With `multi_label` they are the log-probabilities of each label's yes, and the labels that
    apply are those scored at least `threshold` (0.5 when none is given). The answer abstains when
    no label reaches the threshold, or none belongs to the conformal set.

    Raises ValueError when `log_probs` has not one value per name.
    """
    if log_probs.shape != (len(names),):
        raise ValueError(f"{len(names)} labels, log-probabilities of shape {log_probs.shape}")
    probs: list[float] = np.exp(log_probs).tolist()
    order = sorted(range(len(probs)), key=probs.__getitem__, reverse=True)
    scores = tuple(LabelScore(names[index], probs[index]) for index in order)

    def labels_of(least: float | tuple[float, ...]) -> tuple[str, ...]:
        members = label_sets(np.array(probs), least)
        return tuple(names[index] for index in order if members[index])

    threshold, conformal_set = options.threshold, None
    label_set = None if options.conformal is None else labels_of(options.conformal.least)
    if options.multi_label:
        threshold = MULTI_LABEL_THRESHOLD if threshold is None else threshold
        label_set, conformal_set = labels_of(threshold), label_set
    best = scores[0]
    abstained = label_set == () or (threshold is not None and best.score < threshold)
    return Classification(
        label=None if abstained else best.label,
        score=best.score,
        scores=scores[: options.top_k],
        probs=tuple(probs),
        label_set=label_set,
        abstained=abstained,
        conformal_set=conformal_set,
    )
