"""Generation: the stream, its fold, and the room an answer has."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from loadtests.processes import eventually
from service.context import Tokens
from service.engine.contract import Part, Sampling
from service.engine.texts import Message
from service.errors import InvalidRequest
from service.generation import text
from service.generation.text import (
    DEFAULT_MAX_TOKENS,
    Answer,
    GenerationRequest,
    Summary,
    siblings,
    stream,
)
from tests.fake_engines import fake_engine
from tests.generation.slow_client import SlowClient
from tools.fake_engine import FakeModel

PROMPT_TOKENS = len("Tell me") + 1


def request_for(max_tokens: int | None = None, **changes: Any) -> GenerationRequest:
    confidence = changes.pop("confidence", False)
    sampling = Sampling(max_tokens=1, **changes)
    return GenerationRequest("Tell me", None, max_tokens, sampling, None, confidence)


async def collect(engine: FakeModel, request: GenerationRequest) -> tuple[Sequence[Answer], Tokens]:
    return await text.collect(engine, await request.prepare(engine))


async def streamed(
    engine: FakeModel, request: GenerationRequest, client: SlowClient | None = None
) -> tuple[Sequence[Part], Summary]:
    """The deltas of a request that is streamed, and its end."""
    deltas: list[Part] = []

    def event(delta: Part) -> bytes:
        deltas.append(delta)
        return delta.text.encode()

    client = client or SlowClient()
    summary = await stream(engine, request, client, event)
    assert b"".join(client.parts).decode() == "".join(delta.text for delta in deltas)
    return deltas, summary


@pytest.mark.parametrize("confidence", [True, False])
@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("n", [1, 3])
async def test_the_whole_answer_is_the_fold_of_the_stream(
    n: int, busy: bool, confidence: bool
) -> None:
    engine, _ = fake_engine()
    request = request_for(n=n, seed=1, confidence=confidence)
    texts: dict[int, str] = defaultdict(str)
    reasons = {}
    deltas, summary = await streamed(engine, request, SlowClient(busy=busy))
    for delta in deltas:
        assert delta.index not in reasons
        texts[delta.index] += delta.text
        if delta.finish_reason:
            reasons[delta.index] = delta.finish_reason
    made, usage = await collect(engine, request)
    assert usage == summary.usage
    assert list(summary.finish_reasons) == [reasons[index] for index in range(n)]
    told = summary.confidence or [None] * n
    assert made == [
        Answer(index, texts[index], reasons[index], told[index])  # type: ignore[arg-type]
        for index in range(n)
    ]
    assert len(set(texts.values())) == n
    assert all((answer.confidence is not None) == confidence for answer in made)
    assert len(deltas) == n if busy else len(deltas) > n


async def test_usage_counts_the_prompt_once_and_every_answer() -> None:
    engine, _ = fake_engine()
    made, usage = await collect(engine, request_for(max_tokens=1, n=4))
    assert [answer.finish_reason for answer in made] == ["length"] * 4
    assert (usage.prompt, usage.completion) == (PROMPT_TOKENS, 4)


async def test_without_max_tokens_the_answer_gets_what_fits_up_to_the_default() -> None:
    roomy, _ = fake_engine(max_model_len=1000)
    tight, _ = fake_engine(max_model_len=PROMPT_TOKENS + 2)
    assert len(roomy.encode("Tell me")) + DEFAULT_MAX_TOKENS < 1000
    made, usage = await collect(tight, request_for(seed=1))
    assert (usage.completion, made[0].finish_reason) == (2, "length")
    assert (await collect(roomy, request_for(seed=1)))[1].completion > 2


async def test_an_answer_may_fill_the_context_to_its_last_token() -> None:
    engine, _ = fake_engine(max_model_len=PROMPT_TOKENS + 2)
    assert (await collect(engine, request_for(max_tokens=2)))[1].completion == 2


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
    for answer in (
        collect(engine, request_for(max_tokens)),
        streamed(engine, request_for(max_tokens)),
    ):
        with pytest.raises(InvalidRequest, match=str(max_model_len)) as refused:
            await answer
        assert str(PROMPT_TOKENS) in refused.value.message
        assert refused.value.param == param
    assert engine.raw.starts == 0


async def test_messages_and_a_prompt_of_the_same_text_are_different_requests() -> None:
    engine, _ = fake_engine()
    chat = GenerationRequest(
        None, [Message("user", "Tell me")], None, Sampling(1, temperature=0.0), None, False
    )
    (plain,), _ = await collect(engine, request_for(temperature=0.0))
    (answer,), usage = await collect(engine, chat)
    assert usage.prompt > PROMPT_TOKENS
    assert answer.text != plain.text


async def test_a_stream_that_is_ended_early_leaves_the_engine_idle() -> None:
    engine, admission = fake_engine()
    engine.raw.frozen = True
    task = asyncio.create_task(streamed(engine, request_for(seed=1)))
    await eventually(lambda: engine.raw.running == 1)
    assert admission.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (admission.in_flight, engine.raw.running) == (0, 0)


async def test_siblings_are_sampled_with_a_seed_each_and_all_are_counted() -> None:
    engine, _ = fake_engine()
    job = await request_for(temperature=0, confidence=True).prepare(engine)
    (greedy,), _ = await text.collect(engine, job)
    texts, used = await siblings(engine, job, 3, 0.7)
    alone = [await collect(engine, request_for(temperature=0.7, seed=seed)) for seed in range(3)]
    assert list(texts) == [answer.text for (answer,), _ in alone]
    assert len({greedy.text, *texts}) == 4
    assert used.completion == sum(counts.completion for _, counts in alone)
    assert used.prompt == 3 * PROMPT_TOKENS
