"""Zero-shot classification by inference, against the pipeline of transformers."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline

from service.classification.encoder import DEFAULT_HYPOTHESIS, InferenceClassifier, Verdicts
from service.classification.result import classify_one
from tests.adapters.packed import ReferenceEncoder
from tests.served.tiny_encoder import build_tiny_encoder

NLI = ("entailment", "neutral", "contradiction")
TEXT = "the team wins the match"
LABELS = ("market", "garden team", "law")


def reference(folder: Path, hypothesis: str, *, multi_label: bool) -> list[float]:
    """transformers' scores, in the order of the labels."""
    pipeline = ZeroShotClassificationPipeline(
        model=AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    found = pipeline(TEXT, list(LABELS), hypothesis_template=hypothesis, multi_label=multi_label)
    scores = dict(zip(found["labels"], found["scores"], strict=True))
    return [scores[label] for label in LABELS]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("hypothesis", [DEFAULT_HYPOTHESIS, "the {} of it"])
@pytest.mark.parametrize("verdicts", [NLI, NLI[::-1], ("entailment", "not_entailment")])
async def test_scores_are_those_of_transformers(
    tmp_path: Path, verdicts: Sequence[str], hypothesis: str, multi_label: bool
) -> None:
    build_tiny_encoder(tmp_path / "nli", verdicts)
    encoder = ReferenceEncoder(tmp_path / "nli")
    places = Verdicts.of(encoder.info.labels)
    assert places is not None
    classifier = InferenceClassifier(encoder, places, LABELS, hypothesis, multi_label)
    found = await classify_one(classifier, TEXT, asyncio.Semaphore(2))
    expected = reference(tmp_path / "nli", hypothesis, multi_label=multi_label)
    assert found.probs == pytest.approx(expected, abs=1e-3)
    assert np.ptp(expected) > 1e-2


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (NLI, (0, 2)),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 0)),
        (("not-entailment", "entailment"), (1, 0)),
        (("entailment", "neutral"), None),
        (("sports", "politics"), None),
        ((), None),
    ],
)
def test_a_head_of_inference_is_known_by_its_labels(
    labels: tuple[str, ...], found: tuple[int, int] | None
) -> None:
    verdicts = Verdicts.of(labels)
    assert (verdicts and (verdicts.entails, verdicts.contradicts)) == found
