"""Conformal label sets: the promise of a classifier, and the threshold that keeps it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """Label sets that hold the true label of at least a share `coverage` of texts.

    A set holds every label whose probability is at least `least`. Labels that do not exclude each
    other have a threshold each, and the promise holds for each label among the texts to which it
    applies. `level` is the share of texts whose set may miss the true label; as fitted it is
    1 - coverage.
    """

    coverage: float
    least: float | tuple[float, ...]
    level: float

    @classmethod
    def fitted(cls, coverage: float, least: float | tuple[float, ...]) -> "ConformalSets":
        """Sets with thresholds that held-out lines gave."""
        return cls(coverage, least, missing(coverage))

    def at(self, level: float) -> "ConformalSets":
        """These fitted sets at another level.

        At a level of 0 or below a set holds every label, at 1 only certain ones. Only the threshold
        of the fitted level is known: the others lie on straight lines from it to both ends.
        """
        level = max(0.0, level)
        if isinstance(self.least, tuple):
            least = tuple(self._moved(each, level) for each in self.least)
            return replace(self, least=least, level=level)
        return replace(self, least=self._moved(self.least, level), level=level)

    def _moved(self, least: float, level: float) -> float:
        if level <= self.level:
            return least * (level / self.level)
        return 1 - (1 - least) * ((1 - level) / (1 - self.level))


def missing(coverage: float) -> float:
    """The share of sets that may miss the true label: 1 - coverage without its rounding error."""
    return round(1 - coverage, 12)
