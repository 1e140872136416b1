"""chrF2: the F-score of character n-grams, which favours recall (Popovic 2015, 2016)."""

from collections import Counter

_ORDER = 6
_RECALL = 4  # beta squared


def chrf(answer: str, expected: str) -> float:
    """Score in 0..100 of one answer, with sacrebleu's defaults.

    These leave out spaces, and of the orders n = 1..6 those for which either text is too short.
    """
    found, wanted = "".join(answer.split()), "".join(expected.split())
    precisions, recalls = [], []
    for order in range(1, min(_ORDER, len(found), len(wanted)) + 1):
        ours, theirs = _grams(found, order), _grams(wanted, order)
        common = (ours & theirs).total()
        precisions.append(common / ours.total())
        recalls.append(common / theirs.total())
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + _RECALL) * precision * recall / (_RECALL * precision + recall)


def _grams(text: str, order: int) -> Counter[str]:
    return Counter(text[at : at + order] for at in range(len(text) - order + 1))
