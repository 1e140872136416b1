"""Labels of a head with their uncalibrated scores, the best first."""

import numpy as np

from service.classification.calibration import label_log_probs
from service.classification.head import answer_rows
from service.engine.pooling import EncoderInfo, Pooled


def predictions(pooled: Pooled, info: EncoderInfo, *, raw: bool) -> list[tuple[str, float]]:
    """Each label of the head with its probability, or with its logit if `raw`."""
    scores = pooled.values.astype(np.float64)
    if not raw:
        rows = answer_rows(pooled.values, multi_label=info.multi_label)
        scores = np.exp(label_log_probs(rows, multi_label=info.multi_label))
    order = np.argsort(-scores, kind="stable")
    return [(info.labels[index], float(scores[index])) for index in order]
