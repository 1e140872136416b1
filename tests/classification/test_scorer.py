import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.classification.scorer import LabelScorer
from service.context import current_context
from service.engine.contract import Adapter, LabelLogprobs
from service.errors import DeadlineExceeded, InvalidRequest, ServiceError
from tests.fake_engines import fake_engine
from tests.staged_engine import StagedModel

TAIL = "\nLabel:"
WORDS = [(name, f" {name}") for name in ("a", "ab", "abc", "b", "c d", "c e")]


def _scorer(engine: StagedModel) -> LabelScorer:
    return LabelScorer(engine.encode_template, TAIL, WORDS, engine.end_token_ids)


ADAPTER = Adapter("sentiment", 1, "/adapters/sentiment", "0" * 64)
ONE_READ = [(name, f" {name}") for name in ("a", "b")]
TWO_READS = [(name, f" {name}") for name in ("a", "b", "bc")]


class Asked:
    """A reader by the base that notes whose weights each read is of, and has 3 tokens cached."""

    def __init__(self, engine: StagedModel) -> None:
        self._engine = engine
        self.model = engine.model
        self.adapters: list[Adapter | None] = []

    async def label_logprobs(
        self, prompt: list[int], token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        self.adapters.append(adapter)
        return replace(await self._engine.label_logprobs(prompt, token_ids, None), cached_tokens=3)


def _prompt(engine: StagedModel, text: str = "x") -> list[int]:
    return engine.encode(text + TAIL)


async def test_folds_the_reads_of_the_trie_into_one_distribution() -> None:
    engine, _ = fake_engine()
    prompt = _prompt(engine)
    score = await _scorer(engine).score(engine, prompt)
    # " a…", " b" and " c …" part after the space, "a" and "ab" may end, "c " continues twice.
    assert engine.raw.starts == 4
    assert math.isclose(np.exp(score.log_probs).sum(), 1)
    deepest = [len(" "), len(" a"), len(" ab"), len(" c ")]
    assert score.prompt_tokens == 4 * len(prompt) + sum(deepest)


async def test_is_what_the_trie_makes_of_the_same_reads() -> None:
    engine, _ = fake_engine()
    scorer = _scorer(engine)
    prompt = _prompt(engine)
    encoded = [(name, tuple(engine.encode(words))) for name, words in WORDS]
    first = await engine.label_logprobs([*prompt, *b" "], list(b"abc"), None)
    score = await scorer.score(engine, prompt)
    b = [name for name, _ in encoded].index("b")
    weights = np.exp(first.logprobs)
    assert math.isclose(np.exp(score.log_probs[b]), weights[1] / weights.sum())


async def test_one_label_needs_no_read() -> None:
    engine, _ = fake_engine()
    scorer = LabelScorer(engine.encode, TAIL, [("a", " a")], ())
    assert scorer.tokens(_prompt(engine)) == len("x" + TAIL) + 1
    score = await scorer.score(engine, _prompt(engine))
    assert (score.prompt_tokens, list(score.log_probs)) == (0, [0.0])


@pytest.mark.parametrize(("words", "reads"), [(WORDS, 4), (TWO_READS, 2), (ONE_READ, 1)])
@pytest.mark.parametrize("slots", [None, 2])
async def test_every_read_is_of_the_adapters_weights(
    words: list[tuple[str, str]], reads: int, slots: int | None
) -> None:
    engine, _ = fake_engine()
    asked: Any = Asked(engine)
    scorer = LabelScorer(engine.encode_template, TAIL, words, engine.end_token_ids)
    bound = asyncio.Semaphore(slots) if slots else None
    score = await scorer.score(asked, _prompt(engine), ADAPTER, bound)
    assert asked.adapters == [ADAPTER] * reads
    assert score.cached_tokens == 3 * reads
    assert scorer.trie.names == tuple(name for name, _ in words)


async def test_a_single_read_waits_for_a_slot_too() -> None:
    engine, _ = fake_engine()
    slots = asyncio.Semaphore(0)
    asked: Any = Asked(engine)
    scorer = LabelScorer(engine.encode_template, TAIL, ONE_READ, engine.end_token_ids)
    running = asyncio.create_task(scorer.score(asked, _prompt(engine), None, slots))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked.adapters == []
    slots.release()
    await running


async def test_never_has_more_reads_in_admission_than_slots() -> None:
    engine, admission = fake_engine(capacity=1)
    slots = asyncio.Semaphore(2)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, admission.in_flight + admission.queued)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    scorer = _scorer(engine)
    await asyncio.gather(
        *(scorer.score(engine, _prompt(engine, text), None, slots) for text in "uvwxyz")
    )
    watcher.cancel()
    assert most == 2


async def test_a_read_that_fails_cancels_the_others_and_is_raised_as_it_is() -> None:
    engine, admission = fake_engine(capacity=1, token_seconds=0.01)
    current_context().set_timeout(15)  # for two reads, of more than two
    with pytest.raises(DeadlineExceeded):
        await _scorer(engine).score(engine, _prompt(engine))
    assert (admission.in_flight, admission.queued, engine.raw.running) == (0, 0, 0)


async def test_counts_the_deepest_read_into_the_context() -> None:
    engine, _ = fake_engine(max_model_len=40)
    scorer = _scorer(engine)
    fits = "x" * (40 - len(TAIL) - len(" c ") - 1)
    await scorer.score(engine, _prompt(engine, fits))
    with pytest.raises(InvalidRequest, match=r"37 tokens .* and 4 of the labels .* of 40") as over:
        await scorer.score(engine, _prompt(engine, fits + "x"))
    assert (over.value.code, over.value.param) == ("context_length_exceeded", "input")


async def test_refuses_a_prompt_of_another_template() -> None:
    engine, _ = fake_engine()
    with pytest.raises(ServiceError, match=r"^The prompt does not end as its template does\.$"):
        await _scorer(engine).score(engine, engine.encode("x\nLabel"))
