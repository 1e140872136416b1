"""Generation: the stream, its fold, and the room an answer has."""

from collections import defaultdict
from typing import Any

import pytest
from service.generation.stream import (
    DEFAULT_MAX_TOKENS,
    GenerationRequest,
    Summary,
    TextDelta,
    stream,
)
from service.generation.whole import Output, Prepared, collect

from service.engine.protocol import Message, Sampling
from service.errors import InvalidRequest
from tests.fake_engines import fake_engine

PROMPT_TOKENS = len("Tell me") + 1


def request_for(max_tokens: int | None = None, **changes: Any) -> GenerationRequest:
    confidence = changes.pop("confidence", False)
    sampling = Sampling(max_tokens=1, **changes)
    return GenerationRequest("Tell me", None, max_tokens, sampling, None, confidence)


async def test_the_whole_answer_is_the_fold_of_the_stream() -> None:
    engine, _ = fake_engine()
    request = request_for(n=3, seed=1, confidence=True)
    texts: dict[int, str] = defaultdict(str)
    reasons = {}
    events = [event async for event in stream(engine, request)]
    summary = events.pop()
    assert isinstance(summary, Summary)
    for event in events:
        assert isinstance(event, TextDelta)
        assert event.index not in reasons
        texts[event.index] += event.text
        if event.finish_reason:
            reasons[event.index] = event.finish_reason
    outputs, usage = await collect(engine, request)
    assert usage == summary.usage
    assert outputs == [
        Output(index, texts[index], reasons[index], summary.confidence[index]) for index in range(3)
    ]
    assert len(set(texts.values())) == 3
    assert all(output.confidence for output in outputs)


async def test_usage_counts_the_prompt_once_and_every_answer() -> None:
    engine, _ = fake_engine()
    outputs, usage = await collect(engine, request_for(max_tokens=1, n=4))
    assert [output.finish_reason for output in outputs] == ["length"] * 4
    assert (usage.prompt_tokens, usage.completion_tokens) == (PROMPT_TOKENS, 4)


async def test_without_max_tokens_the_answer_gets_what_fits_up_to_the_default() -> None:
    roomy, _ = fake_engine(max_model_len=1000)
    tight, _ = fake_engine(max_model_len=PROMPT_TOKENS + 2)
    assert len(roomy.encode("Tell me")) + DEFAULT_MAX_TOKENS < 1000
    outputs, usage = await collect(tight, request_for(seed=1))
    assert (usage.completion_tokens, outputs[0].finish_reason) == (2, "length")
    assert (await collect(roomy, request_for(seed=1)))[1].completion_tokens > 2


async def test_an_answer_may_fill_the_context_to_its_last_token() -> None:
    engine, _ = fake_engine(max_model_len=PROMPT_TOKENS + 2)
    assert (await collect(engine, request_for(max_tokens=2)))[1].completion_tokens == 2


@pytest.mark.parametrize(
    ("max_model_len", "max_tokens", "param"),
    [
        (PROMPT_TOKENS + 2, 3, "max_tokens"),
        (PROMPT_TOKENS, 1, "prompt"),
        (PROMPT_TOKENS, None, "prompt"),
        (PROMPT_TOKENS - 1, None, "prompt"),
    ],
)
async def test_what_does_not_fit_is_refused_before_the_engine_sees_it(
    max_model_len: int, max_tokens: int | None, param: str
) -> None:
    engine, _ = fake_engine(max_model_len=max_model_len)
    with pytest.raises(InvalidRequest, match=str(max_model_len)) as refused:
        await collect(engine, request_for(max_tokens))
    assert str(PROMPT_TOKENS) in refused.value.message
    assert refused.value.param == param
    assert engine.starts == 0


async def test_messages_and_a_prompt_of_the_same_text_are_different_requests() -> None:
    engine, _ = fake_engine()
    chat = GenerationRequest(
        None, [Message("user", "Tell me")], None, Sampling(1, temperature=0.0), None, False
    )
    (plain,), _ = await collect(engine, request_for(temperature=0.0))
    (answer,), usage = await collect(engine, chat)
    assert usage.prompt_tokens > PROMPT_TOKENS
    assert answer.text != plain.text


async def test_a_stream_that_is_closed_early_leaves_the_engine_idle() -> None:
    engine, gate = fake_engine()
    events = stream(engine, request_for(seed=1))
    await anext(events)
    assert (gate.in_flight, engine.running) == (1, 1)
    await events.aclose()
    assert (gate.in_flight, engine.running) == (0, 0)


async def test_siblings_are_sampled_with_a_seed_each_and_all_are_counted() -> None:
    engine, _ = fake_engine()
    prepared = await Prepared.of(engine, request_for(temperature=0, confidence=True))
    texts, used = await prepared.siblings(3, 0.7)
    alone = [await collect(engine, request_for(temperature=0.7, seed=seed)) for seed in range(3)]
    assert list(texts) == [output.text for (output,), _ in alone]
    assert len(set(texts)) == 3
    assert used.completion_tokens == sum(counts.completion_tokens for _, counts in alone)
    assert used.prompt_tokens == 3 * PROMPT_TOKENS
