import asyncio
import gc
from dataclasses import replace

import pytest

from loadtests.processes import eventually
from service.classification.classifier import CONTENT_FREE, Question, QuestionCache
from service.context import current_context, enter_context, internal_context
from service.engine.contract import MAX_LABELS
from service.errors import DeadlineExceeded, EngineDead, InvalidRequest
from service.tenants.tenant import Tenant
from tests.fake_engines import fake_engine


def _question(*labels: str) -> Question:
    return Question("Which?", labels, multi_label=False)


async def test_equal_questions_share_a_classifier_and_its_prior() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    asked = [cache.classifier(_question("a", "b"), calibrate=True) for _ in range(5)]
    first, *others = await asyncio.gather(*asked)
    assert all(other is first for other in others)
    assert engine.raw.starts == len(CONTENT_FREE)
    prior = first.calibration.log_prior
    assert prior is not None
    assert prior.shape == (1, 2)


async def test_a_question_is_another_with_other_labels_mode_or_order() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    questions = [
        _question("a", "b"),
        _question("b", "a"),
        Question("Which?", ("a", "b"), multi_label=True),
        Question("What?", ("a", "b"), multi_label=False),
    ]
    found = [await cache.classifier(question, calibrate=False) for question in questions]
    assert len({id(classifier) for classifier in found}) == 4
    assert engine.raw.starts == 0


async def test_forgets_what_was_not_asked_for_longest() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine, capacity=2 * 4096)
    kept = await cache.classifier(_question("a", "b"), calibrate=False)
    lost = await cache.classifier(_question("c", "d"), calibrate=False)
    assert await cache.classifier(_question("a", "b"), calibrate=False) is kept
    await cache.classifier(_question("e", "f"), calibrate=False)
    assert await cache.classifier(_question("a", "b"), calibrate=False) is kept
    assert await cache.classifier(_question("c", "d"), calibrate=False) is not lost


async def test_a_tenant_that_asks_much_forgets_its_own_questions_and_not_others() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine, capacity=4 * 4096)
    mine = await cache.classifier(_question("a", "b"), calibrate=False)
    here = current_context()
    enter_context(replace(here, tenant=Tenant("other")))
    for number in range(20):
        await cache.classifier(_question("a", f"b{number}"), calibrate=False)
    enter_context(here)
    assert await cache.classifier(_question("a", "b"), calibrate=False) is mine


async def test_only_tenants_of_one_salt_group_share_a_calibration() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    here = current_context()
    measured = []
    for tenant in ("a", "b", "a", "b"):
        enter_context(replace(here, tenant=Tenant(tenant)))
        await cache.classifier(_question("a", "b"), calibrate=True)
        measured.append(engine.raw.starts // len(CONTENT_FREE))
    for tenant in ("c", "d"):
        enter_context(replace(here, tenant=Tenant(tenant, salt_group="friends")))
        await cache.classifier(_question("a", "b"), calibrate=True)
        measured.append(engine.raw.starts // len(CONTENT_FREE))
    assert measured == [1, 2, 2, 2, 3, 3]


async def test_a_question_is_served_when_the_place_it_took_is_the_one_given_up() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine, capacity=4096)
    here = current_context()
    there = replace(here, tenant=Tenant("other"))
    for context in (here, there, here, there):
        enter_context(context)
        assert await cache.classifier(_question("a", "b"), calibrate=False)


async def test_the_next_in_line_measures_when_the_first_leaves_or_fails() -> None:
    engine, admission = fake_engine()
    cache = QuestionCache(engine)
    engine.raw.frozen = True
    first, second = (
        asyncio.create_task(cache.classifier(_question("a", "b"), calibrate=True)) for _ in range(2)
    )
    await eventually(lambda: engine.raw.running == len(CONTENT_FREE))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    engine.raw.frozen = False
    assert (await second).calibration.log_prior is not None
    assert admission.in_flight == 0

    engine.raw.failure = EngineDead("The engine has ended.")
    with pytest.raises(EngineDead):
        await cache.classifier(_question("c", "d"), calibrate=True)
    engine.raw.failure = None
    healed = await cache.classifier(_question("c", "d"), calibrate=True)
    assert healed.calibration.log_prior is not None


async def test_who_waits_for_another_keeps_its_own_deadline() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    engine.raw.frozen = True
    slow = asyncio.create_task(cache.classifier(_question("a", "b"), calibrate=True))
    await eventually(lambda: engine.raw.running == len(CONTENT_FREE))

    async def hurried() -> None:
        enter_context(internal_context("hurried", 0.01))
        await cache.classifier(_question("a", "b"), calibrate=True)

    with pytest.raises(DeadlineExceeded, match="while the labels were being prepared"):
        await asyncio.create_task(hurried())
    engine.raw.frozen = False
    await slow


async def test_labels_that_cannot_be_read_are_refused_and_not_kept() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="special token"):
            await cache.classifier(_question("a", "<end>"), calibrate=True)


async def test_long_questions_take_the_places_of_many() -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine, capacity=8 * 4096)
    kept = await cache.classifier(_question("a", "b"), calibrate=False)
    long = "x" * (3 * 4096)
    for number in range(2):
        await cache.classifier(Question(f"{long}{number}", ("a", "b")), calibrate=False)
    assert await cache.classifier(_question("a", "b"), calibrate=False) is kept
    await cache.classifier(Question(f"{long}2", ("a", "b")), calibrate=False)
    assert await cache.classifier(_question("a", "b"), calibrate=False) is kept
    first = await cache.classifier(Question(f"{long}0", ("a", "b")), calibrate=False)
    again = await cache.classifier(Question(f"{long}0", ("a", "b")), calibrate=False)
    assert first is again


async def test_a_question_is_built_once_however_many_ask_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    encode, texts = engine.encode, list[str]()

    def noted(text: str) -> list[int]:
        texts.append(text)
        return encode(text)

    monkeypatch.setattr(engine, "encode", noted)
    await QuestionCache(engine).classifier(_question("once", "b"), calibrate=False)
    once = len(texts)
    asked = [cache.classifier(_question("once", "b"), calibrate=False) for _ in range(5)]
    first, *others = await asyncio.gather(*asked)
    assert all(other is first for other in others)
    assert len(texts) == 2 * once


async def test_questions_that_are_kept_add_little_to_a_collection_of_garbage() -> None:
    """A collection stops the event loop, for longer the more containers there are to follow."""
    engine, _ = fake_engine()
    cache = QuestionCache(engine)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(20):
        labels = [f"{number} {label} {label % 7}" for label in range(MAX_LABELS)]
        for multi_label in (False, True):
            question = Question("Which?", tuple(labels), multi_label=multi_label)
            await cache.classifier(question, calibrate=False)
    gc.collect()
    gc.collect()  # the first one finds that a tuple of tuples holds nothing to follow
    assert len(gc.get_objects()) - before < 40 * 30
