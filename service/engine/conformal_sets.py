"""Conformal label sets: the promise of a classifier, and the threshold that keeps it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """Label sets that hold the true label of at least a share `coverage` of texts.

    A set holds the labels of at least the probability `least`. `level` is the share of texts whose
    set may miss the true label; as fitted it is 1 - coverage.
    """

    coverage: float
    least: float
    level: float

    @classmethod
    def fitted(cls, coverage: float, least: float) -> "ConformalSets":
        """Sets with a threshold that held-out lines gave."""
        return cls(coverage, least, missing(coverage))

    def at(self, level: float) -> "ConformalSets":
        """Fitted sets at another level: from every label, at 0 and below, to certain ones, at 1.

        Only the threshold of the fitted level is known, so the others lie on straight lines from it
        to both ends.
        """
        level = max(0.0, level)
        if level <= self.level:
            least = self.least * (level / self.level)
        else:
            least = 1 - (1 - self.least) * ((1 - level) / (1 - self.level))
        return replace(self, least=least, level=level)


def missing(coverage: float) -> float:
    """The share of sets that may miss the true label, without the error of the subtraction."""
    return round(1 - coverage, 12)
