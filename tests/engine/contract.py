"""Contract of every model that is served, checked on the one that is given.

Each check is a plain coroutine over a model and its admission control; `uphold` runs one as a
request of its own. The fake and the real engine run the same checks, so that the fake cannot drift.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from service.admission.controller import AdmissionController
from service.context import enter_context, internal_context
from service.engine.contract import (
    MAX_READ_IDS,
    Adapter,
    Job,
    Output,
    Part,
    Sampling,
    Sink,
    Structure,
    TextSink,
    TokenLogprobs,
)
from service.engine.texts import Message
from service.errors import DeadlineExceeded, InvalidRequest
from service.generation.fold import Fold
from service.generation.served_model import ServedModel

Check = Callable[[ServedModel, AdmissionController], Awaitable[None]]

STORY = "Once upon a time"
TEXTS = ("Hello", " two words", "line\nline\n", "naïve café", "日本語 🙂", "a  b\t{}[]", "")
GREEDY = Sampling(max_tokens=12, temperature=0.0)


LONG = Sampling(max_tokens=200, temperature=2.0, seed=3)


async def uphold(check: Check, engine: ServedModel, admission: AdmissionController) -> None:
    """Run one check as a request with minutes to spend; it must leave no slot in use."""
    enter_context(internal_context(check.__name__, 600.0))
    await check(engine, admission)
    assert (admission.in_flight, admission.queued) == (0, 0)


@dataclass
class Answer:
    """One sequence, put together from its parts."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: list[TokenLogprobs | None] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


class Outputs:
    """Puts the sequences of a job together, after a check of every part; wants no texts alone."""

    restart = None

    def __init__(self, prompt: list[int], sampling: Sampling) -> None:
        self.sequences = [Answer() for _ in range(sampling.n)]
        self.prompt_logprobs: list[TokenLogprobs | None] = []
        self.begun = asyncio.Event()
        self._prompt = prompt

    def take(self, output: Output) -> TextSink | None:
        assert output.prompt_tokens == len(self._prompt)
        assert 0 <= output.cached_tokens <= output.prompt_tokens
        assert output.engine_wait is None or output.engine_wait >= 0
        if output.prompt_logprobs is not None:
            assert not self.prompt_logprobs
            self.prompt_logprobs += output.prompt_logprobs
        for part in output.parts:
            self._add(part, self.sequences[part.index])
        self.begun.set()
        return None

    @staticmethod
    def _add(part: Part, sequence: Answer) -> None:
        assert sequence.finish_reason is None, "a sequence that has ended brings nothing more"
        assert part.finish_reason in (None, "stop", "length")
        if part.logprobs is not None:
            assert len(part.logprobs) == len(part.token_ids)
        sequence.text += part.text
        sequence.token_ids += part.token_ids
        sequence.finish_reason, sequence.stop_reason = part.finish_reason, part.stop_reason
        sequence.logprobs += part.logprobs or ()


async def run(engine: ServedModel, prompt: list[int], sampling: Sampling, sink: Sink) -> None:
    """Run a generation on the base model."""
    await engine.run(Job(prompt, sampling), sink)


async def answers(
    engine: ServedModel, prompt: list[int], sampling: Sampling, adapter: Adapter | None = None
) -> list[Answer]:
    """The sequences of a generation, after a check of every part."""
    outputs = Outputs(prompt, sampling)
    await engine.run(Job(prompt, sampling, adapter=adapter), outputs)
    assert all(each.finish_reason for each in outputs.sequences)
    if (most := sampling.max_tokens) is not None:
        assert all(each.tokens <= most for each in outputs.sequences)
    return outputs.sequences


async def a_model_names_itself_and_its_limits(
    engine: ServedModel, admission: AdmissionController
) -> None:
    model = engine.model
    assert model.name
    assert model.digest.startswith("sha256:")
    assert model.max_model_len > 0
    assert 0 < admission.capacity <= model.max_num_seqs
    await engine.check()


async def rendering_is_deterministic_and_grows_with_the_text(
    engine: ServedModel, admission: AdmissionController
) -> None:
    short, again, long = [await engine.render(text) for text in (STORY, STORY, STORY * 3)]
    assert short == again
    assert 0 < len(short) < len(long)
    assert long[-1] in engine.encode(STORY)


async def a_conversation_is_more_than_its_text(
    engine: ServedModel, admission: AdmissionController
) -> None:
    user, assistant = Message("user", STORY), Message("assistant", "There was a fox.")
    one, two, three = [
        await engine.render_chat(messages)
        for messages in ([user], [user, assistant], [user, assistant, user])
    ]
    assert len(engine.encode(STORY)) < len(one)
    assert len(one) < len(two) < len(three)
    assert STORY in engine.decode(one)
    assert one != await engine.render_chat([Message("assistant", STORY)])


async def text_comes_back_from_its_tokens(
    engine: ServedModel, admission: AdmissionController
) -> None:
    for text in TEXTS:
        assert engine.decode(engine.encode(text)) == text


async def text_never_becomes_a_special_token(
    engine: ServedModel, admission: AdmissionController
) -> None:
    for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        tokens = engine.encode(text)
        assert len(tokens) > 1
        assert engine.decode(tokens) == text


async def an_unknown_token_is_refused(engine: ServedModel, admission: AdmissionController) -> None:
    for token in (-1, 1 << 40, 10**4200):
        with pytest.raises(InvalidRequest, match="tokens: ids are 0") as refused:
            engine.decode([0, token])
        assert len(refused.value.message) < 100


async def a_prompt_longer_than_the_context_is_refused_with_the_limit(
    engine: ServedModel, admission: AdmissionController
) -> None:
    limit = engine.model.max_model_len
    text = "word " * (limit + 1)
    with pytest.raises(InvalidRequest, match=str(limit)):
        await engine.render(text)
    with pytest.raises(InvalidRequest, match=str(limit)):
        await engine.render_chat([Message("user", text)])


async def a_greedy_answer_repeats(engine: ServedModel, admission: AdmissionController) -> None:
    prompt = await engine.render(STORY)
    first, second = [await answers(engine, prompt, GREEDY) for _ in range(2)]
    assert first == second
    assert first[0].text
    assert first[0].tokens > 0


async def max_tokens_ends_an_answer(engine: ServedModel, admission: AdmissionController) -> None:
    prompt = await engine.render(STORY)
    (answer,) = await answers(engine, prompt, Sampling(max_tokens=1, temperature=0.0))
    assert (answer.tokens, answer.finish_reason) == (1, "length")


async def a_stop_string_ends_an_answer_before_it(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    (whole,) = await answers(engine, prompt, GREEDY)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 4]
    (cut,) = await answers(
        engine, prompt, Sampling(max_tokens=12, temperature=0.0, stop=("never ever", stop))
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


async def a_seed_decides_a_sampled_answer(
    engine: ServedModel, admission: AdmissionController
) -> None:
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


async def n_answers_take_n_slots_and_differ(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    sampling = Sampling(max_tokens=12, n=3, seed=1)
    slots: list[int] = []

    class Looking(Outputs):
        def take(self, output: Output) -> TextSink | None:
            slots.append(admission.in_flight)
            return super().take(output)

    outputs = Looking(prompt, sampling)
    await run(engine, prompt, sampling, outputs)
    assert set(slots) == {3}
    assert len({sequence.text for sequence in outputs.sequences}) > 1


async def each_token_has_log_probabilities_when_asked_for(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    (plain,) = await answers(engine, prompt, GREEDY)
    (asked,) = await answers(engine, prompt, Sampling(max_tokens=12, temperature=0.0, logprobs=5))
    assert plain.logprobs == []
    assert asked.text == plain.text
    assert len(asked.logprobs) == asked.tokens
    for token_id, place in zip(asked.token_ids, asked.logprobs, strict=True):
        assert place is not None
        assert len(place) >= 5
        assert next(iter(place)) == token_id
        top = [each.logprob for each in place.values()]
        assert all(logprob <= 0 for logprob in top)
        assert top[0] == max(top)
        assert sum(map(math.exp, top)) <= 1.001


async def each_token_of_the_prompt_has_them_when_asked_for(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    for sampling in (
        Sampling(max_tokens=2, temperature=0.0, prompt_logprobs=0),
        Sampling(max_tokens=2, n=2, prompt_logprobs=0),
    ):
        outputs = Outputs(prompt, sampling)
        await run(engine, prompt, sampling, outputs)
        assert outputs.prompt_logprobs[0] is None
        places = outputs.prompt_logprobs[1:]
        assert [list(place or ()) for place in places] == [[each] for each in prompt[1:]]


async def a_choice_is_one_of_the_given(engine: ServedModel, admission: AdmissionController) -> None:
    choice = ["a red one", "green", "no. 3"]
    prompt = await engine.render(STORY)
    sampling = Sampling(max_tokens=32, n=3, seed=1, structure=Structure(choice=choice))
    for sequence in await answers(engine, prompt, sampling):
        assert sequence.text in choice
        assert sequence.finish_reason == "stop"


class Texts(Outputs):
    """Puts one sequence together, of which it wants the texts alone where it can have them."""

    def __init__(self, prompt: list[int], sampling: Sampling) -> None:
        super().__init__(prompt, sampling)
        self.counted = 0
        self._waits = ""

    def take(self, output: Output) -> TextSink | None:
        self.release()
        super().take(output)
        self.counted += sum(len(part.token_ids) for part in output.parts)
        return self

    def add(self, text: str, tokens: int) -> None:
        (answer,) = self.sequences
        assert answer.finish_reason is None
        self._waits += text
        self.counted += tokens

    def release(self) -> None:
        self.sequences[0].text += self._waits
        self._waits = ""


async def an_answer_in_texts_or_as_a_fold_is_the_same(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    for sampling in (
        GREEDY,
        Sampling(max_tokens=1, temperature=0.0),
        LONG,
        Sampling(max_tokens=200, temperature=2.0, seed=3, stop=["e"]),
    ):
        (wanted,) = await answers(engine, prompt, sampling)
        texts, fold, whole = Texts(prompt, sampling), Fold(), Fold(details=True)
        await run(engine, prompt, sampling, texts)
        await run(engine, prompt, sampling, fold)
        await run(engine, prompt, sampling, whole)
        (found,) = texts.sequences
        end = (wanted.text, wanted.finish_reason, wanted.stop_reason)
        assert (found.text, found.finish_reason, found.stop_reason) == end
        for each in (*fold.whole(), *whole.whole()):
            assert (each.text, each.finish_reason, each.stop_reason) == end
        assert {texts.counted, fold.tokens, whole.tokens} == {wanted.tokens}
        assert whole.whole()[0].token_ids == wanted.token_ids


async def an_answer_ends_with_its_reader_or_its_sink(
    engine: ServedModel, admission: AdmissionController
) -> None:
    class Broken(Texts):
        def take(self, output: Output) -> TextSink | None:
            raise ValueError("of the sink")

    prompt = await engine.render(STORY)
    with pytest.raises((ValueError, InvalidRequest), match="of the sink"):
        await run(engine, prompt, GREEDY, Broken(prompt, GREEDY))
    reader = asyncio.create_task(run(engine, prompt, LONG, Texts(prompt, LONG)))
    for _ in range(20):  # steps of its task, of which one takes the slots
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def a_job_that_is_ended_has_reached_its_maximum(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    for sampling in (
        Sampling(max_tokens=300, temperature=0.0, ignore_eos=True),
        Sampling(max_tokens=300, seed=1, n=2, ignore_eos=True),
    ):
        job = Job(prompt, sampling)
        outputs = Outputs(prompt, sampling)
        running = asyncio.create_task(engine.run(job, outputs))
        await outputs.begun.wait()
        job.end()
        await running
        for each in outputs.sequences:
            assert each.finish_reason == "length"
            assert each.tokens < 300
        assert any(each.tokens for each in outputs.sequences)  # one may not have begun


async def without_a_maximum_an_answer_may_fill_the_context(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    sampling = Sampling(max_tokens=None, temperature=0.0, ignore_eos=True)
    (answer,) = await answers(engine, prompt, sampling)
    assert answer.tokens == engine.model.max_model_len - len(prompt)
    assert answer.finish_reason == "length"


async def a_prompt_that_leaves_no_room_is_refused(
    engine: ServedModel, admission: AdmissionController
) -> None:
    full = [1] * engine.model.max_model_len
    with pytest.raises(InvalidRequest, match="leave no room for an answer") as refused:
        await answers(engine, full, GREEDY)
    assert refused.value.code == "context_length_exceeded"


async def a_generation_can_be_repeated(engine: ServedModel, admission: AdmissionController) -> None:
    prompt = await engine.render(STORY)
    for sampling in (GREEDY, Sampling(max_tokens=12, n=2, seed=7, logprobs=2)):
        old, new = Fold(sampling.n, details=True), Fold(details=True)
        await engine.run(Job(prompt, sampling), old)
        await engine.run(Job(prompt, replace(sampling, n=1, logprobs=None)), new)
        assert new.whole()[0].token_ids
        assert new.whole()[0].token_ids == old.whole()[0].token_ids


async def label_reads_are_log_probabilities_in_the_order_asked(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    token_ids = list(range(MAX_READ_IDS))
    read = await engine.label_logprobs(prompt, token_ids, None)
    backwards = await engine.label_logprobs(prompt, token_ids[::-1], None)
    assert read.prompt_tokens == len(prompt)
    assert 0 <= read.cached_tokens <= read.prompt_tokens
    assert len(read.logprobs) == MAX_READ_IDS
    assert all(logprob < 0 for logprob in read.logprobs)
    assert sum(map(math.exp, read.logprobs)) <= 1.001
    assert len(set(read.logprobs)) > 1
    assert list(backwards.logprobs)[::-1] == pytest.approx(list(read.logprobs), abs=1e-3)


async def more_reads_than_slots_take_turns(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    reads = await asyncio.gather(
        *(engine.label_logprobs(prompt, [1, 2], None) for _ in range(admission.capacity + 2))
    )
    assert len(reads) == admission.capacity + 2
    assert admission.in_flight == 0


async def cancelling_a_reader_leaves_nothing_running(
    engine: ServedModel, admission: AdmissionController
) -> None:
    prompt = await engine.render(STORY)
    for kind in (Outputs, Texts):
        sampling = Sampling(max_tokens=200, temperature=0.0, ignore_eos=True)
        sink = kind(prompt, sampling)
        reader = asyncio.create_task(run(engine, prompt, sampling, sink))
        await sink.begun.wait()
        assert admission.in_flight == 1
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
        assert admission.in_flight == 0
        assert await answers(engine, prompt, GREEDY)


async def a_deadline_that_has_passed_is_kept(
    engine: ServedModel, admission: AdmissionController
) -> None:
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
    each_token_of_the_prompt_has_them_when_asked_for,
    a_choice_is_one_of_the_given,
    an_answer_in_texts_or_as_a_fold_is_the_same,
    an_answer_ends_with_its_reader_or_its_sink,
    a_job_that_is_ended_has_reached_its_maximum,
    without_a_maximum_an_answer_may_fill_the_context,
    a_prompt_that_leaves_no_room_is_refused,
    a_generation_can_be_repeated,
    label_reads_are_log_probabilities_in_the_order_asked,
    more_reads_than_slots_take_turns,
    cancelling_a_reader_leaves_nothing_running,
    a_deadline_that_has_passed_is_kept,
)
