"""The one way to an engine: room for the answer, structures, guards, and what is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from service.admission.controller import AdmissionController
from service.context import current_context
from service.context.answer import Answer
from service.engine.contract import Job, Sampling, Sink, Structure
from service.errors import EngineDead, InvalidRequest
from service.generation.fold import Fold
from tests.fake_engines import fake_engine
from tests.staged_engine import StagedModel

PROMPT = range(7)
LONG = Sampling(40, seed=1, ignore_eos=True)
CHOICE = Structure(choice=("yes",))


class Structures:
    """Compiles each structure to a choice of `compiled`; nothing is admitted meanwhile."""

    def __init__(self, admission: AdmissionController, failure: Exception | None = None) -> None:
        self.stopped = False
        self._admission = admission
        self._failure = failure

    @asynccontextmanager
    async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
        assert self._admission.in_flight == 0
        if self._failure is not None:
            raise self._failure
        assert sampling.structure is not None
        yield replace(sampling, structure=replace(sampling.structure, choice=("compiled",)))

    def stop(self) -> None:
        self.stopped = True


async def answer(model: StagedModel, sampling: Sampling = LONG, sink: Sink | None = None) -> Fold:
    fold = Fold(sampling.n, details=True)
    await model.run(Job(PROMPT, sampling), sink or fold)
    return fold


@pytest.mark.parametrize(
    ("asked", "info", "tokens"),
    [
        (9, {}, 9),
        (None, {}, 13),
        (99, {}, 13),
        (None, {"sampling_defaults": {"max_tokens": 5}}, 5),
        (9, {"sampling_defaults": {"max_tokens": 5}}, 9),
        (9, {"most_new_tokens": 4}, 4),
        (None, {"most_new_tokens": 4, "sampling_defaults": {"max_tokens": 5}}, 4),
    ],
)
async def test_an_answer_is_as_long_as_was_asked_and_as_fits(
    asked: int | None, info: dict[str, Any], tokens: int
) -> None:
    model, _ = fake_engine(max_model_len=20)
    model.raw.model = replace(model.raw.model, **info)
    fold = await answer(model, replace(LONG, max_tokens=asked))
    assert fold.tokens == tokens
    assert fold.whole()[0].finish_reason == "length"


async def test_a_prompt_that_leaves_no_room_is_refused_before_the_engine_sees_it() -> None:
    model, _ = fake_engine(max_model_len=7)
    with pytest.raises(InvalidRequest, match="7 tokens leave no room") as refused:
        await answer(model)
    assert refused.value.code == "context_length_exceeded"
    assert model.raw.starts == 0


async def test_a_structure_is_compiled_before_the_request_takes_a_place() -> None:
    model, _ = fake_engine(structures=Structures)
    fold = await answer(model, replace(LONG, structure=CHOICE))
    assert fold.whole()[0].text == "compiled"
    assert current_context().extended(Answer).structure_cut is False


async def test_what_a_grammar_does_not_enforce_is_noted_for_the_answer() -> None:
    class Lenient(Structures):
        @asynccontextmanager
        async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
            async with super().compiled(sampling) as compiled:
                assert compiled.structure is not None
                left = replace(compiled.structure, unenforced=("/a: pattern",))
                yield replace(compiled, structure=left)

    model, _ = fake_engine(structures=Lenient)
    schema = Structure(json_schema={"type": "string"}, strict=False)
    job = Job(PROMPT, replace(LONG, structure=schema))
    await model.run(job, Fold(1, details=True))
    assert current_context().extended(Answer).unenforced == ("/a: pattern",)
    assert job.sampling.structure is not None
    assert job.sampling.structure.is_checked


async def test_a_structure_that_cannot_be_compiled_takes_no_place() -> None:
    refusing = partial(Structures, failure=InvalidRequest("too long"))
    model, admission = fake_engine(structures=refusing)
    with pytest.raises(InvalidRequest, match="too long"):
        await answer(model, replace(LONG, structure=CHOICE))
    assert (model.raw.starts, admission.in_flight) == (0, 0)


async def test_a_request_without_a_chance_is_refused_before_its_prompt_is_read() -> None:
    model, admission = fake_engine()
    admission.close(lambda: EngineDead("ended"))
    with pytest.raises(EngineDead):
        model.refuse_early()
    with pytest.raises(EngineDead):
        await model.render("Tell me")


async def test_stopping_ends_the_engine_and_what_compiles_and_tokenises() -> None:
    made: list[Structures] = []

    def structures(admission: AdmissionController) -> Structures:
        made.append(Structures(admission))
        return made[0]

    model, _ = fake_engine(structures=structures)
    await model.stop()
    assert (model.raw.dead, made[0].stopped) == (True, True)
    with pytest.raises(EngineDead):
        await model.check()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(model.render("long " * 1000), 1)
