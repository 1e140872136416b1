"""Engines without HTTP: their settings, and what is asked of a base."""

from pathlib import Path

import numpy as np

from service.adapters.golden import Asking
from service.adapters.manifest import LabelSet, PromptTemplate
from service.settings.tree import ModelSettings
from tests.fake_engines import fake_engine
from training.offline import OfflineModel, measuring_settings

BASE = ModelSettings(name="tiny", path=Path("models/tiny"))


def test_the_engine_has_room_for_the_rank_unless_the_run_says_how_much() -> None:
    settings = measuring_settings(BASE, {"dtype": "float32"}, 9)
    assert settings.engine == {"max_lora_rank": 16, "dtype": "float32"}
    assert measuring_settings(BASE, {"max_lora_rank": 64}, 9).engine == {"max_lora_rank": 64}
    # Nobody waits for a first token, so that no line may be refused for a queue that is long.
    assert settings.admission.target_token_ms is None
    assert settings.admission.max_wait_ms > 3_600_000


async def test_labels_and_answers_of_the_base_come_in_the_order_of_the_texts() -> None:
    model = OfflineModel(fake_engine(capacity=2)[0], 30.0)
    labels = LabelSet(labels={"positive": " good", "negative": " bad"})
    prompt = PromptTemplate(template="{input}:")
    texts = [f"text {number}" for number in range(6)]
    scores = await model.label_scores(prompt, labels, None, texts)
    assert scores.shape == (6, 1, 2)
    assert np.allclose(np.exp(scores).sum(axis=2), 1)
    alone = [await model.label_scores(prompt, labels, None, [text]) for text in texts]
    assert np.allclose(scores, np.concatenate(alone))
    asked = [Asking(prompt=text) for text in texts]
    answers = await model.answers(asked, 3, None)
    assert [answers[2]] == await model.answers(asked[2:3], 3, None)
    assert all(0 < answer.least_probability <= 1 for answer in answers)
