"""Differences between the answers of two versions to one request."""

import math

from service.context.kept import Kept, KeptGeneration, KeptText

FAILED = {"errors": 1.0, "invalid": 0.0}
"""Differences if the next version failed and the old one answered."""
REFUSED = {"errors": 0.0, "invalid": 1.0}
"""Differences if the next version refused the request as invalid and the old one answered."""

_MUCH = math.log(2)


def differences(old: Kept, new: Kept) -> dict[str, float]:
    """The observations of the shadow's tests, for a request that both versions answered.

    Sampled generations are compared by length only, because two samples of one model differ too.
    """
    found = {"errors": 0.0, "invalid": 0.0}
    if isinstance(old, KeptText) and isinstance(new, KeptText):
        return found | _of_texts(old, new)
    assert isinstance(old, KeptGeneration)
    assert isinstance(new, KeptGeneration)
    return found | _of_generations(old, new)


def _of_texts(old: KeptText, new: KeptText) -> dict[str, float]:
    """Differences of a classification; an answer that abstains gives no label to compare."""
    found = {"divergence": _distance(old, new)}
    found["abstentions"] = float(bool(old.labels) and not new.labels)
    if old.labels and new.labels:
        found["flips"] = float(set(old.labels) != set(new.labels))
    return found


def _distance(old: KeptText, new: KeptText) -> float:
    """Total variation distance of the two distributions: half the sum of their differences.

    Probabilities of independent labels need not sum to 1. If they sum to more, the difference is
    divided by the sum of both, so that the distance is at most 1.
    """
    labels = {*old.probs, *new.probs}
    apart = sum(abs(old.probs.get(label, 0.0) - new.probs.get(label, 0.0)) for label in labels)
    whole = max(2.0, sum(old.probs.values()) + sum(new.probs.values()))
    return min(1.0, apart / whole)


def _of_generations(old: KeptGeneration, new: KeptGeneration) -> dict[str, float]:
    ratio = math.log(max(1, len(new.tokens)) / max(1, len(old.tokens)))
    found = {"lengths": float(ratio > _MUCH) - float(ratio < -_MUCH)}
    if old.repeatable:
        found["answers"] = float(old.tokens != new.tokens)
    if old.cut is not None and new.cut is not None:
        found["structure"] = float(new.cut and not old.cut)
    return found
