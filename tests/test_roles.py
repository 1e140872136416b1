"""Consumers of a role of the engine run with an object that has only this role."""

import asyncio
from typing import Any

import pytest

from service.adapters.classifier import AdapterFrame
from service.adapters.manifest import LabelSet, PromptTemplate
from service.classification.classifier import Question, QuestionCache
from service.classification.result import Classified, ResultOptions, classify_batch
from service.common.aio import slots_for
from service.engine.contract import Pulse
from service.engine.texts import LabelEngine, Vocabulary
from service.errors import EngineDead
from service.runtime.status import Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import WatchdogSettings
from tests.fake_engines import fake_engine


class Only:
    """An engine of which nothing but some roles is to be seen."""

    def __init__(self, engine: object, role: type) -> None:
        self._engine = engine
        self._members = {name for name in dir(role) if not name.startswith("_")}

    def __getattr__(self, name: str) -> Any:
        if name not in self._members:
            raise AttributeError(f"{name} is of another role")
        return getattr(self._engine, name)


@pytest.mark.parametrize("multi_label", [False, True])
async def test_classification_needs_a_label_engine(multi_label: bool) -> None:
    engine: Any = Only(fake_engine()[0], LabelEngine)
    question = Question("What is it?", ("good", "bad"), multi_label)
    classifier = await QuestionCache(engine).classifier(question, calibrate=True)
    options, width = ResultOptions(multi_label=multi_label), slots_for(engine.model.max_num_seqs, 2)
    outcomes = [each async for each in classify_batch(classifier, ["one", "two"], options, width)]
    assert all(isinstance(outcome, Classified) for outcome in outcomes)
    assert len(outcomes) == 2


def test_the_prompts_of_an_adapter_need_a_vocabulary() -> None:
    vocabulary: Any = Only(fake_engine()[0], Vocabulary)
    template = PromptTemplate(template="Review: {input}\nSentiment:")
    labels = LabelSet(labels={"good": " good", "bad": " bad"})
    frame = AdapterFrame(vocabulary, template, labels)
    assert frame.prompt("fine", frame.questions[0])


async def test_the_watchdog_needs_a_pulse() -> None:
    engine, admission = fake_engine()
    status = Status()
    pulse: Any = Only(engine, Pulse)
    watchdog = Watchdog("fake", pulse, admission, status, WatchdogSettings())
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    engine.raw.dead = True
    await running
    assert isinstance(status.failure, EngineDead)
