"""Guards before a model's answers, on a fake engine."""

from dataclasses import replace

import pytest

from service.context import current_context
from service.context.answer import Guarded
from service.engine.contract import Structure
from service.errors import OutputFlagged
from tests.fake_engines import fake_engine
from tests.generation.test_served_model import CHOICE, LONG, answer
from tests.plugins.guards.shouting import Shouting


async def test_a_guard_reads_the_answer_before_the_caller_gets_it() -> None:
    model, admission = fake_engine()
    plain = await answer(model)
    in_flight = []

    class Reading(Shouting):
        async def read(self, text: str, *, structured: bool) -> str:
            in_flight.append(admission.in_flight)
            return await super().read(text, structured=structured)

    current_context().extend(Guarded(answer=(guard := Reading())))
    fold = await answer(model)
    text = plain.whole()[0].text
    assert fold.whole()[0].text == text.upper()
    assert fold.tokens == plain.tokens
    assert guard.read_texts == [(text, False)]
    assert in_flight == [0]


@pytest.mark.parametrize("asked", [True, False])
async def test_a_guard_knows_that_no_word_of_a_structure_may_change(asked: bool) -> None:
    model, _ = fake_engine()
    current_context().extend(Guarded(answer=(guard := Shouting())))
    await answer(model, replace(LONG, structure=replace(CHOICE, asked=asked)))
    assert guard.read_texts == [("yes", asked)]


async def test_a_flagged_answer_leaves_the_engine_idle() -> None:
    model, admission = fake_engine()
    current_context().extend(Guarded(answer=Shouting()))
    secret = replace(LONG, structure=Structure(choice=("secret",)))
    with pytest.raises(OutputFlagged):
        await answer(model, secret)
    assert (admission.in_flight, model.raw.running) == (0, 0)
