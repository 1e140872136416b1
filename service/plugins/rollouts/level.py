"""Conformal level of a version, moved by feedback so that its coverage is kept where inputs shift.

Source: Gibbs and Candès 2021, "Adaptive Conformal Inference Under Distribution Shift", equation 2:
after each text whose true label became known, level += step (promised level - missed), where
`missed` is 1 if its set did not hold the label. The share of missed texts comes near the promised
level whatever the texts are: of T it differs by at most (1 + step) / (step T), for any threshold
that admits every label at level 0 (proposition 4.1). Here a level stays below MOST, which can only
lower that share.

There each true label comes before the next text. One that comes later, or at another replica than
the one that answered, is of a set at another level than the present one, and draws the level to
that one by PULL. Thus late ratings do not make a level swing, and replicas' levels stay together.
"""

from service.engine.conformal_sets import missing
from service.plugins.rollouts.answer_ids import ToldSet

MOST = 0.5
PULL = 3


def moved(level: float, told: ToldSet, step: float, *, missed: bool) -> float:
    """The level after one more true label of a text whose set was told.

    It falls to -step and counts as 0 then: the sets hold every label until enough of them held the
    true one.
    """
    promised = missing(told.coverage)
    level += step * (promised - missed + PULL * (told.level - max(0.0, level)))
    return round(min(max(level, -step), max(MOST, promised)), 9)
