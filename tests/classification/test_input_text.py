"""Inputs of a length that would hold up others."""

import asyncio
import threading
from typing import Any, cast

import pytest

from service.classification.classifier import Classifier, Question, zero_shot
from service.classification.frame import check_length
from service.errors import InvalidRequest
from tests.fake_engines import fake_engine


async def test_what_no_tokenisation_fits_is_refused_by_its_characters() -> None:
    engine = fake_engine(max_model_len=512)[0]
    await check_length("x" * 512, engine)
    with pytest.raises(InvalidRequest, match=r"input: 513 characters .* 512 tokens") as refused:
        await check_length("x" * 513, engine)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


async def test_a_long_text_is_refused_by_its_tokens() -> None:
    engine = fake_engine(max_model_len=20_000)[0]
    await check_length("x" * 20_000, engine)
    with pytest.raises(InvalidRequest, match=r"input: 26402 tokens .* of 20000"):
        await check_length("é" * 10_001 + "x" * 6_400, engine)


async def test_it_is_refused_before_it_is_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine(max_model_len=512)[0]
    question = Question("Which?", ("a", "b"), multi_label=True)
    classifier = zero_shot(engine, question)
    monkeypatch.setattr(engine, "encode", lambda _: pytest.fail("it was tokenised"))
    with pytest.raises(InvalidRequest, match="input: 1000000 characters"):
        await classifier.score("x" * 1_000_000, asyncio.Semaphore(4))


async def test_a_long_text_is_written_in_a_thread_and_a_short_one_is_not() -> None:
    threads: list[threading.Thread] = []

    class Frame:
        def prompt(self, text: str, question: None) -> list[int]:
            threads.append(threading.current_thread())
            return [len(text)]

    classifier: Any = Classifier(fake_engine()[0], cast(Any, Frame()), (), multi_label=False)
    assert await classifier._prompt("x" * 100, None) == [100]
    assert await classifier._prompt("x" * 100_000, None) == [100_000]
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()
