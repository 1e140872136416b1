"""The card of an encoder among OpenAI's models."""

import time
from typing import Any

from service.classification.inference import Verdicts
from service.engine.pooling import EncoderInfo

_STARTED = int(time.time())


def encoder_card(info: EncoderInfo) -> dict[str, Any]:
    """The encoder's task, and what its answers hold: dimensions or labels.

    `zero_shot` is true if it can choose among labels of the request.
    """
    card: dict[str, Any] = {
        "id": info.name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "llm-service",
        "root": info.name,
        "parent": None,
        "max_model_len": info.max_model_len,
        "task": info.task,
        "tools": False,
        "digest": info.digest,
    }
    if info.task == "embed":
        return card | {"dimensions": info.width, "matryoshka": info.dimensions is not None}
    if not info.labels:
        return card
    by_inference = Verdicts.of(info.labels) is not None
    return card | {"labels": list(info.labels), "zero_shot": by_inference}
