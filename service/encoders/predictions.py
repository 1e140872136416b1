"""Labels of a head with their scores, the best first."""

import numpy as np

from service.engine.pooling import EncoderInfo, Pooled


def predictions(pooled: Pooled, info: EncoderInfo, *, raw: bool) -> list[tuple[str, float]]:
    """Each label of the head with its probability, or with its logit if `raw`."""
    scores = pooled.values.astype(np.float64)
    if not raw:
        scores = np.exp(-np.logaddexp(0.0, -scores) if info.multi_label else _log_softmax(scores))
    order = np.argsort(-scores, kind="stable")
    return [(info.labels[index], float(scores[index])) for index in order]


def _log_softmax(logits: "np.typing.NDArray[np.float64]") -> "np.typing.NDArray[np.float64]":
    shifted = logits - logits.max()
    found: np.typing.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return found
