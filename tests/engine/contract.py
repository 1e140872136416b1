"""Contract of every `Engine`, checked on the one that is given.

Each check is a plain coroutine over an engine and its gate; `uphold` runs one as a request of its
own. The fake and the real engine run the same checks, so that the fake cannot drift.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from service.context import enter_context, internal_context
from service.context.kept import KeptGeneration
from service.engine.protocol import (
    MAX_READ_IDS,
    Adapter,
    Chunk,
    Engine,
    FinishReason,
    Message,
    Prompt,
    Sampling,
    Structure,
    TextSink,
    TokenLogprob,
)
from service.errors import DeadlineExceeded, InvalidRequest
from service.gate.gate import Gate

Check = Callable[[Engine, Gate], Awaitable[None]]

STORY = "Once upon a time"
TEXTS = ("Hello", " two words", "line\nline\n", "naïve café", "日本語 🙂", "a  b\t{}[]", "")
GREEDY = Sampling(max_tokens=12, temperature=0.0)


async def uphold(check: Check, engine: Engine, gate: Gate) -> None:
    """Run one check as a request with minutes to spend; it must leave no permit behind."""
    enter_context(internal_context(check.__name__, 600.0))
    await check(engine, gate)
    assert (gate.in_flight, gate.queued) == (0, 0)


@dataclass
class Answer:
    """One sequence, put together from its deltas."""

    text: str = ""
    tokens: int = 0
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)


async def answers(
    engine: Engine, prompt: Prompt, sampling: Sampling, adapter: Adapter | None = None
) -> list[Answer]:
    """The sequences of a generation, after a check of every delta."""
    sequences = [Answer() for _ in range(sampling.n)]
    async with aclosing(engine.generate(prompt, sampling, adapter)) as chunks:
        async for chunk in chunks:
            _take(chunk, prompt, sequences)
    assert all(sequence.finish_reason for sequence in sequences)
    assert all(sequence.tokens <= sampling.max_tokens for sequence in sequences)
    return sequences


def _take(chunk: Chunk, prompt: Prompt, sequences: list[Answer]) -> None:
    assert chunk.prompt_tokens == len(prompt.token_ids)
    assert 0 <= chunk.cached_tokens <= chunk.prompt_tokens
    for delta in chunk.deltas:
        sequence = sequences[delta.index]
        assert sequence.finish_reason is None, "a sequence that has ended brings nothing more"
        sequence.text += delta.text
        sequence.tokens += delta.tokens
        sequence.finish_reason = delta.finish_reason
        sequence.logprobs.extend(delta.logprobs)


async def a_model_names_itself_and_its_limits(engine: Engine, gate: Gate) -> None:
    model = engine.model
    assert model.name
    assert model.digest.startswith("sha256:")
    assert model.max_model_len > 0
    assert 0 < gate.capacity <= model.max_num_seqs
    await engine.check()


async def rendering_is_deterministic_and_grows_with_the_text(engine: Engine, gate: Gate) -> None:
    short, again, long = [await engine.render(text) for text in (STORY, STORY, STORY * 3)]
    assert short == again
    assert 0 < len(short.token_ids) < len(long.token_ids)
    assert long.token_ids[-1] in engine.encode(STORY)


async def a_conversation_is_more_than_its_text(engine: Engine, gate: Gate) -> None:
    user, assistant = Message("user", STORY), Message("assistant", "There was a fox.")
    one, two, three = [
        await engine.render_chat(messages)
        for messages in ([user], [user, assistant], [user, assistant, user])
    ]
    assert len(engine.encode(STORY)) < len(one.token_ids)
    assert len(one.token_ids) < len(two.token_ids) < len(three.token_ids)
    assert STORY in engine.decode(one.token_ids)
    assert one != await engine.render_chat([Message("assistant", STORY)])


async def text_comes_back_from_its_tokens(engine: Engine, gate: Gate) -> None:
    for text in TEXTS:
        assert engine.decode(engine.encode(text)) == text


async def text_never_becomes_a_special_token(engine: Engine, gate: Gate) -> None:
    for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        tokens = engine.encode(text)
        assert len(tokens) > 1
        assert engine.decode(tokens) == text


async def an_unknown_token_is_refused(engine: Engine, gate: Gate) -> None:
    for token in (-1, 1 << 40, 10**4200):
        with pytest.raises(InvalidRequest, match="tokens: ids are 0") as refused:
            engine.decode([0, token])
        assert len(refused.value.message) < 100


async def a_prompt_longer_than_the_context_is_refused_with_the_limit(
    engine: Engine, gate: Gate
) -> None:
    limit = engine.model.max_model_len
    text = "word " * (limit + 1)
    with pytest.raises(InvalidRequest, match=str(limit)):
        await engine.render(text)
    with pytest.raises(InvalidRequest, match=str(limit)):
        await engine.render_chat([Message("user", text)])


async def a_greedy_answer_repeats(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    first, second = [await answers(engine, prompt, GREEDY) for _ in range(2)]
    assert first == second
    assert first[0].text
    assert first[0].tokens > 0


async def max_tokens_ends_an_answer(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    (answer,) = await answers(engine, prompt, Sampling(max_tokens=1, temperature=0.0))
    assert (answer.tokens, answer.finish_reason) == (1, "length")


async def a_stop_string_ends_an_answer_before_it(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    (whole,) = await answers(engine, prompt, GREEDY)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 4]
    (cut,) = await answers(
        engine, prompt, Sampling(max_tokens=12, temperature=0.0, stop=("never ever", stop))
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


async def a_seed_decides_a_sampled_answer(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    texts = {
        seed: [
            (await answers(engine, prompt, Sampling(max_tokens=12, seed=seed)))[0].text
            for _ in range(2)
        ]
        for seed in (1, 2, 3)
    }
    assert all(first == second for first, second in texts.values())
    assert len({first for first, _ in texts.values()}) > 1


async def n_answers_take_n_slots_and_differ(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    sampling = Sampling(max_tokens=12, n=3, seed=1)
    async with aclosing(engine.generate(prompt, sampling, None)) as chunks:
        await anext(chunks)
        assert gate.in_flight == 3
    sequences = await answers(engine, prompt, sampling)
    assert len({sequence.text for sequence in sequences}) > 1


async def each_token_has_log_probabilities_when_asked_for(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    (plain,) = await answers(engine, prompt, GREEDY)
    (asked,) = await answers(engine, prompt, Sampling(max_tokens=12, temperature=0.0, logprobs=5))
    assert plain.logprobs == []
    assert asked.text == plain.text
    assert len(asked.logprobs) == asked.tokens
    for token in asked.logprobs:
        assert len(token.top) >= 5
        assert all(logprob <= 0 for logprob in token.top)
        assert token.logprob == max(token.top)
        assert sum(map(math.exp, token.top)) <= 1.001


async def a_choice_is_one_of_the_given(engine: Engine, gate: Gate) -> None:
    choice = ["a red one", "green", "no. 3"]
    prompt = await engine.render(STORY)
    sampling = Sampling(max_tokens=32, n=3, seed=1, structure=Structure(choice=choice))
    for sequence in await answers(engine, prompt, sampling):
        assert sequence.text in choice
        assert sequence.finish_reason == "stop"


class Pushed:
    """Puts a pushed answer together."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.answer = Answer()
        self._waits = ""

    def take(self, chunk: Chunk) -> TextSink | None:
        (delta,) = chunk.deltas
        self.add(delta.text, delta.tokens)
        self.release()
        self.answer.finish_reason = delta.finish_reason
        return self

    def add(self, text: str, tokens: int) -> None:
        assert self.answer.finish_reason is None
        self._waits += text
        self.answer.tokens += tokens

    def release(self) -> None:
        self.answer.text += self._waits
        self._waits = ""


async def a_pushed_answer_is_the_generated_one(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    for sampling in (
        GREEDY,
        Sampling(max_tokens=1, temperature=0.0),
        Sampling(max_tokens=200, temperature=2.0, seed=3),
        Sampling(max_tokens=200, temperature=2.0, seed=3, stop=["e"]),
    ):
        sink = Pushed()
        await engine.push(prompt, sampling, None, sink)
        assert [sink.answer] == await answers(engine, prompt, sampling)


async def a_pushed_answer_ends_with_its_reader_or_its_sink(engine: Engine, gate: Gate) -> None:
    class Broken(Pushed):
        def take(self, chunk: Chunk) -> TextSink | None:
            raise ValueError("of the sink")

    prompt = await engine.render(STORY)
    with pytest.raises((ValueError, InvalidRequest), match="of the sink"):
        await engine.push(prompt, GREEDY, None, Broken())
    long = Sampling(max_tokens=200, temperature=2.0, seed=3)
    reader = asyncio.create_task(engine.push(prompt, long, None, Pushed()))
    for _ in range(20):  # steps of its task, of which one takes the permit
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def a_generation_that_is_kept_can_be_repeated(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    for sampling, repeatable in (
        (GREEDY, True),
        (Sampling(max_tokens=12, n=2, seed=7, logprobs=2), True),
        (Sampling(max_tokens=12), False),
    ):
        old = await _kept(answers(engine, prompt, sampling))
        assert old.prompt == prompt.token_ids
        assert old.repeatable == repeatable
        new = await _kept(engine.repeat(old.prompt, old.parameters, None))
        assert new.tokens
        assert new.tokens == old.tokens or not repeatable


async def _kept(work: Awaitable[object]) -> KeptGeneration:
    """The generation that work keeps as a request of its own."""
    context = internal_context("kept", 600.0)
    context.extend(kept := KeptGeneration())
    enter_context(context)
    await work
    return kept


async def label_reads_are_log_probabilities_in_the_order_asked(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    token_ids = list(range(MAX_READ_IDS))
    read = await engine.label_logprobs(prompt, token_ids, None)
    backwards = await engine.label_logprobs(prompt, token_ids[::-1], None)
    assert read.prompt_tokens == len(prompt.token_ids)
    assert 0 <= read.cached_tokens <= read.prompt_tokens
    assert len(read.logprobs) == MAX_READ_IDS
    assert all(logprob < 0 for logprob in read.logprobs)
    assert sum(map(math.exp, read.logprobs)) <= 1.001
    assert len(set(read.logprobs)) > 1
    assert list(backwards.logprobs)[::-1] == pytest.approx(list(read.logprobs), abs=1e-3)


async def more_reads_than_slots_take_turns(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    reads = await asyncio.gather(
        *(engine.label_logprobs(prompt, [1, 2], None) for _ in range(gate.capacity + 2))
    )
    assert len(reads) == gate.capacity + 2
    assert gate.in_flight == 0


async def closing_a_stream_leaves_nothing_running(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    stream = engine.generate(prompt, Sampling(max_tokens=200, temperature=0.0), None)
    await anext(stream)
    assert gate.in_flight == 1
    await stream.aclose()
    assert gate.in_flight == 0
    assert await answers(engine, prompt, GREEDY)


async def cancelling_a_reader_leaves_nothing_running(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    begun = asyncio.Event()

    async def read_on() -> None:
        async with aclosing(engine.generate(prompt, Sampling(max_tokens=200), None)) as chunks:
            async for _ in chunks:
                begun.set()
                await asyncio.sleep(0)

    reader = asyncio.create_task(read_on())
    await begun.wait()
    reader.cancel()
    await asyncio.wait([reader])
    assert gate.in_flight == 0
    assert await answers(engine, prompt, GREEDY)


async def a_deadline_that_has_passed_is_kept(engine: Engine, gate: Gate) -> None:
    prompt = await engine.render(STORY)
    enter_context(internal_context("late", 0.0))
    with pytest.raises(DeadlineExceeded):
        await answers(engine, prompt, Sampling(max_tokens=200))
    with pytest.raises(DeadlineExceeded):
        await engine.label_logprobs(prompt, [1], None)


CONTRACT: tuple[Check, ...] = (
    a_model_names_itself_and_its_limits,
    rendering_is_deterministic_and_grows_with_the_text,
    a_conversation_is_more_than_its_text,
    text_comes_back_from_its_tokens,
    text_never_becomes_a_special_token,
    an_unknown_token_is_refused,
    a_prompt_longer_than_the_context_is_refused_with_the_limit,
    a_greedy_answer_repeats,
    max_tokens_ends_an_answer,
    a_stop_string_ends_an_answer_before_it,
    a_seed_decides_a_sampled_answer,
    n_answers_take_n_slots_and_differ,
    each_token_has_log_probabilities_when_asked_for,
    a_choice_is_one_of_the_given,
    a_pushed_answer_is_the_generated_one,
    a_pushed_answer_ends_with_its_reader_or_its_sink,
    a_generation_that_is_kept_can_be_repeated,
    label_reads_are_log_probabilities_in_the_order_asked,
    more_reads_than_slots_take_turns,
    closing_a_stream_leaves_nothing_running,
    cancelling_a_reader_leaves_nothing_running,
    a_deadline_that_has_passed_is_kept,
)
