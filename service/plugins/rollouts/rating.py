"""A rating of one answer, in whatever words it came."""

from dataclasses import dataclass

from service.plugins.rollouts.answer_ids import ToldLabel


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of an answer.

    `score` is 1 for right, 0 for wrong, or between; None if it says nothing of the answer, as the
    true label of one that abstained. `right` is about the best label, `label` the true one's place.
    """

    score: float | None
    right: bool | None = None
    label: int | None = None

    @classmethod
    def by_label(cls, told: ToldLabel, label: int) -> "Rating":
        """The rating of a caller that knows the true label."""
        right = told.best == label
        return cls(None if told.abstained else float(right), right, label)

    @classmethod
    def by_word(cls, told: ToldLabel | None, *, correct: bool) -> "Rating":
        """The rating of a caller that knows whether the answer was right."""
        gives = told is not None and not told.abstained
        return cls(float(correct), correct if gives else None)
