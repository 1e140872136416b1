"""Limit on the inputs of a batch that are begun at once."""

import asyncio

import pytest

from loadtests.processes import eventually
from service.classification.classifier import Classifier, Question, zero_shot
from service.classification.result import Classified, ResultOptions, classify_batch
from service.classification.scorer import Score
from service.context import enter_context, internal_context
from tests.fake_engines import fake_engine


class Watch:
    """Counts the inputs that classifiers work on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = self.most_begun = 0
        unwatched = Classifier.score

        async def score(classifier: Classifier, text: str, slots: asyncio.Semaphore) -> Score:
            self.begun += 1
            self.most_begun = max(self.most_begun, self.begun)
            try:
                return await unwatched(classifier, text, slots)
            finally:
                self.begun -= 1

        monkeypatch.setattr(Classifier, "score", score)


@pytest.mark.parametrize(("multi_label", "most"), [(False, 9), (True, 3)])
async def test_no_more_are_begun_than_keep_the_reads_busy(
    multi_label: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    engine, _ = fake_engine(capacity=8)
    question = Question("What?", ("alpha", "beta", "gamma", "delta"), multi_label)
    classifier = zero_shot(engine, question)
    assert classifier.reads == (4 if multi_label else 1)
    enter_context(internal_context("test", 30.0))
    inputs, options = [f"text {n}" for n in range(40)], ResultOptions(multi_label=multi_label)
    outcomes = [outcome async for outcome in classify_batch(classifier, inputs, options, 8)]
    assert all(isinstance(outcome, Classified) for outcome in outcomes)
    assert len(outcomes) == 40
    assert 1 < watch.most_begun <= most


@pytest.mark.parametrize("multi_label", [False, True])
async def test_an_input_of_many_reads_waits_in_few_tasks(multi_label: bool) -> None:
    """A request of 256 labels costs the event loop no more than the reads that may run."""
    engine, _ = fake_engine(capacity=8, max_model_len=4096)
    # Labels that begin alike part at many places, each of which is a read.
    labels = ["".join(f"{bit}" for bit in f"{number:08b}") for number in range(256)]
    classifier = zero_shot(engine, Question("What?", tuple(labels), multi_label))
    assert classifier.reads > 200
    engine.raw.frozen = True
    before = len(asyncio.all_tasks())
    scoring = asyncio.create_task(classifier.score("A text.", asyncio.Semaphore(8)))
    await eventually(lambda: engine.raw.starts == 8)
    assert len(asyncio.all_tasks()) - before <= 2 * 8 + 2
    engine.raw.frozen = False
    await scoring
