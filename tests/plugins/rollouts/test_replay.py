"""What is recorded of a request's first generation."""

from dataclasses import replace

import pytest

from service.admission.slots import Preempted
from service.context import SinkWrappers, current_context
from service.engine.contract import Job, Output, Sampling, Sink, Structure, TextSink
from service.generation.fold import Fold
from service.plugins.rollouts.replay import ReplayGeneration
from tests.fake_engines import fake_engine
from tests.staged_engine import StagedModel

PROMPT = range(7)
LONG = Sampling(40, seed=1, ignore_eos=True)
CHOICE = Structure(choice=("yes",))


def recorded() -> ReplayGeneration:
    """The record of what the current request generates from now on."""
    record = ReplayGeneration()
    current_context().extended(SinkWrappers).wrap[:] = [record.record]
    return record


class Outputs:
    """A sink that counts the outputs it gets, and would rather have texts."""

    restart = None

    def __init__(self) -> None:
        self.text = ""
        self.outputs = 0

    def take(self, output: Output) -> TextSink | None:
        self.outputs += 1
        self.text += "".join(part.text for part in output.parts)
        return self

    def add(self, text: str, tokens: int) -> None:
        self.text += text

    def release(self) -> None: ...


async def answer(model: StagedModel, sampling: Sampling = LONG, sink: Sink | None = None) -> Fold:
    fold = Fold(sampling.n, details=True)
    await model.run(Job(PROMPT, sampling), sink or fold)
    return fold


@pytest.mark.parametrize("n", [1, 2])
async def test_the_first_question_and_its_first_answer_are_kept(n: int) -> None:
    model, _ = fake_engine()
    kept = recorded()
    fold = await answer(model, replace(LONG, n=n))
    assert kept.tokens == fold.whole()[0].token_ids
    assert (kept.prompt, kept.sampling) == (PROMPT, replace(LONG, n=n))
    assert (kept.repeatable, kept.cut) == (True, None)
    before = list(kept.tokens)
    await answer(model, Sampling(3))
    assert (kept.tokens, kept.sampling) == (before, replace(LONG, n=n))


async def test_all_tokens_are_kept_of_an_answer_whose_caller_wants_text_alone() -> None:
    model, _ = fake_engine()
    fold = await answer(model)
    kept = recorded()
    outputs = Outputs()
    await answer(model, sink=outputs)
    assert kept.tokens == fold.whole()[0].token_ids
    assert outputs.text == fold.whole()[0].text


async def test_it_is_kept_whether_a_structured_answer_was_cut() -> None:
    model, _ = fake_engine()
    for structure, cut in ((CHOICE, False), (replace(CHOICE, asked=False), None)):
        kept = recorded()
        await answer(model, replace(LONG, structure=structure))
        assert kept.cut is cut


async def test_what_a_preempted_answer_had_is_not_kept() -> None:
    model, _ = fake_engine()
    kept = recorded()

    class Again(Fold):
        def restart(self) -> None:
            model.raw.failure = None
            super().restart()

    fold = Again(details=True)
    model.raw.spared, model.raw.failure = 5, Preempted()
    await answer(model, sink=fold)
    assert model.raw.starts == 2
    assert kept.tokens == fold.whole()[0].token_ids == list(range(40))
