"""Consumers of a role of the engine run with an object that has only this role."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.adapters.manifest import LabelSet, PromptTemplate
from service.adapters.metrics import AdapterMetrics, Residency
from service.classification.adapter_frame import AdapterFrame
from service.classification.question_cache import QuestionCache
from service.classification.result import Classified, ResultOptions, classify_batch
from service.classification.zero_shot import Question
from service.encoders.passages import slots_for
from service.engine.protocol import (
    AdapterHost,
    Pulse,
    Reader,
    Sampling,
    Tokeniser,
    Vocabulary,
)
from service.engine.roles import Generator, LanguageModel
from service.errors import EngineDead
from service.generation.text import GenerationRequest, collect
from service.runtime.status import Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import WatchdogSettings
from tests.fake_engines import fake_engine

ROLES = (Vocabulary, Tokeniser, Generator, Reader, AdapterHost, Pulse)


def members(*roles: type) -> set[str]:
    return {name for role in roles for name in dir(role) if not name.startswith("_")}


class Only:
    """An engine of which nothing but some roles is to be seen."""

    def __init__(self, engine: object, *roles: type) -> None:
        self._engine = engine
        self._members = members(*roles)

    def __getattr__(self, name: str) -> Any:
        if name not in self._members:
            raise AttributeError(f"{name} is of another role")
        return getattr(self._engine, name)


def test_a_model_is_its_roles_its_chats_and_its_start_and_end() -> None:
    others = {"chats", "refuse_early", "warm_up", "stop"}
    assert members(LanguageModel) == members(*ROLES) | others
    assert members(LanguageModel) <= set(dir(fake_engine()[0]))


@pytest.mark.parametrize("multi_label", [False, True])
async def test_classification_needs_a_tokeniser_and_a_reader(multi_label: bool) -> None:
    engine: Any = Only(fake_engine()[0], Tokeniser, Reader)
    question = Question("What is it?", ("good", "bad"), multi_label)
    classifier = await QuestionCache(engine).classifier(question, calibrate=True)
    options, width = ResultOptions(multi_label=multi_label), slots_for(engine.model.max_num_seqs, 2)
    outcomes = [each async for each in classify_batch(classifier, ["one", "two"], options, width)]
    assert all(isinstance(outcome, Classified) for outcome in outcomes)
    assert len(outcomes) == 2


async def test_generation_needs_a_tokeniser_and_a_generator() -> None:
    engine: Any = Only(fake_engine()[0], Tokeniser, Generator)
    request = GenerationRequest("Hello", None, 4, Sampling(4), None, confidence=True)
    (output,), usage = await collect(engine, request)
    assert output.text
    assert usage.completion_tokens > 0


def test_the_prompts_of_an_adapter_need_a_vocabulary() -> None:
    vocabulary: Any = Only(fake_engine()[0], Vocabulary)
    template = PromptTemplate(template="Review: {input}\nSentiment:")
    labels = LabelSet(labels={"good": " good", "bad": " bad"})
    frame = AdapterFrame(vocabulary, template, labels)
    assert frame.prompt("fine", frame.questions[0]).token_ids


async def test_residency_needs_a_host_of_adapters() -> None:
    host: Any = Only(fake_engine()[0], AdapterHost)
    await Residency(host, AdapterMetrics(CollectorRegistry())).look({})


async def test_the_watchdog_needs_a_pulse() -> None:
    engine, gate = fake_engine()
    status = Status()
    pulse: Any = Only(engine, Pulse)
    watchdog = Watchdog("fake", pulse, gate, status, WatchdogSettings())
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    engine.raw.dead = True
    await running
    assert isinstance(status.failure, EngineDead)
