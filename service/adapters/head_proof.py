"""Proof of an encoder's head on its engine: golden examples, and the logits of the first ones.

A head with other tokenisation, pooling or weights may still classify easy examples correctly, but
its logits differ. So the logits are compared too: by the root mean square difference, as a share of
the packed logits' spread over the examples. This share is comparable between heads with large and
with small logits.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from service.adapters.golden import ClassificationExample
from service.adapters.golden_score import GoldenResult
from service.adapters.heads import (
    MANIFEST_FILE,
    MAX_FINGERPRINT_LINES,
    HeadManifest,
    HeadRefused,
    Values,
    golden_examples,
    load_manifest,
)
from service.adapters.questions import ask_all, check_accuracy, refuse_unanswered, score_classifier
from service.classification.calibration import Array
from service.classification.encoder import HeadClassifier
from service.context import internal_request
from service.engine.pooling import Pooler

TOLERANCE = 0.1
"""Largest distance that other processors and dtypes may cause (docs/decisions, heads)."""
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class HeadProof:
    """Result of the golden examples, and the distance from the packed values, in `seconds`."""

    result: GoldenResult
    distance: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.result.passed} of {self.result.total} golden examples right, "
            f"{self.distance:.3f} from the packed values, {self.seconds:.1f} s"
        )


async def prove_head(engine: Pooler, folder: Path, timeout_s: float) -> HeadProof | None:
    """Run the golden examples of a head that `finetune` packed; None for any other encoder.

    Raises HeadRefused if the head passes too few examples, if its logits differ from the packed
    ones, and if the proof takes longer than `timeout_s`; EngineDead when the engine ends.
    """
    head = await asyncio.to_thread(load_manifest, folder)
    if head is None:
        return None
    started = time.monotonic()
    refuse = partial(HeadRefused, head.name, head.golden.file)
    examples = await asyncio.to_thread(golden_examples, folder, head)
    async with internal_request(f"proof-{head.name}", timeout_s):
        with refuse_unanswered(refuse, timeout_s):
            most = engine.info.max_num_seqs
            result = await score_classifier(HeadClassifier(engine), examples, most)
            values = await _values(engine, examples[: len(head.fingerprint)])
    check_accuracy(refuse, result, head.golden.min_accuracy)
    distance = _distance(head, values)
    if not distance <= TOLERANCE:
        expected, found = f"values within {TOLERANCE:g} of those packed", f"{distance:.2f} apart"
        raise HeadRefused(head.name, MANIFEST_FILE, "proof", expected, found)
    return HeadProof(result, distance, time.monotonic() - started)


async def fingerprint_of(
    engine: Pooler, examples: Sequence[ClassificationExample], timeout_s: float
) -> Values:
    """The values that a running head gives for the first of its golden examples.

    Raises what `Pooler` raises.
    """
    async with internal_request(f"fingerprint-{engine.info.name}", timeout_s):
        found = await _values(engine, examples[:MAX_FINGERPRINT_LINES])
    return tuple(tuple(round(float(each), _DECIMALS) for each in row) for row in found)


async def _values(engine: Pooler, examples: Sequence[ClassificationExample]) -> Array:
    classifier, most = HeadClassifier(engine), engine.info.max_num_seqs

    async def ask(example: ClassificationExample) -> Array:
        pooled = await classifier.ask(example.input, asyncio.Semaphore(most))
        return pooled.values.astype(np.float64)

    return np.stack(await ask_all(most, examples, ask))


def _distance(head: HeadManifest, found: Array) -> float:
    packed = np.array(head.fingerprint)
    spread = float(np.sqrt(np.mean((packed - packed.mean(axis=0)) ** 2)))
    if spread < TOLERANCE:
        raise HeadRefused(
            head.name,
            MANIFEST_FILE,
            "proof",
            f"packed values that differ by {TOLERANCE:g} or more among the golden examples",
            f"{spread:.2f}: the head tells them apart too little",
        )
    return float(np.sqrt(np.mean((found - packed) ** 2))) / spread
