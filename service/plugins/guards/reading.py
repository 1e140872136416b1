"""Reading of a text by a classifier, in pieces where it is longer than the model's context."""

import asyncio

import numpy as np

from service.classification.calibration import Array
from service.classification.result import TextClassifier
from service.common.aio import together
from service.errors import InvalidRequest

_HALVINGS = 6
_OVERLAP = 64
"""Characters on each side of a cut that both halves have, at most."""


async def probabilities(
    classifier: TextClassifier, text: str, slots: asyncio.Semaphore, halvings: int = _HALVINGS
) -> Array:
    """The calibrated probability of each of the classifier's labels.

    A text that is too long is read in two halves that overlap, and a half that is still too long
    in two halves again; a label gets its largest probability in any part. Raises InvalidRequest for
    a text that is too long after `halvings` halvings, and what `TextClassifier.score` raises.
    """
    try:
        score = await classifier.score(text, slots)
    except InvalidRequest as error:
        if error.code != "context_length_exceeded" or not halvings:
            raise
    else:
        whole: Array = np.exp(score.log_probs)
        return whole
    middle, shared = len(text) // 2, min(_OVERLAP, len(text) // 8)
    halves = (text[: middle + shared], text[middle - shared :])
    read = await together(probabilities(classifier, half, slots, halvings - 1) for half in halves)
    largest: Array = np.maximum(*read)
    return largest
