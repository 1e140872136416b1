"""Measurement: which answers are right, and which lines may become golden examples."""

from collections.abc import Callable
from typing import Any

import pytest

from service.adapters.golden import GenerationExample
from tests.fake_engines import fake_engine
from training.config import FinetuneSettings
from training.figures import GenerationFigures
from training.measure import Evaluation, evaluate, is_well_formed
from training.offline import OfflineModel
from training.prepare import Prepared, prepare
from training.train import train

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": 2}}\n</tool_call>'

Settings = Callable[..., FinetuneSettings]
GENERATION: dict[str, Any] = {
    "task": "generation", "prompt": None, "split": {"calibration": 0}
}  # fmt: skip


async def measured(wanted: FinetuneSettings, prepared: Prepared) -> Evaluation:
    model = OfflineModel(fake_engine()[0], 30.0)
    folder, _ = train(wanted, prepared)
    async with model.loaded("films", folder, "sha256:x") as adapter:
        return await evaluate(model, adapter, wanted, prepared)


async def test_answers_that_are_right_become_golden(settings: Settings) -> None:
    lines = [{"prompt": f"say {n}", "completion": "x"} for n in range(60)]
    wanted = settings(lines, **GENERATION, evaluation={"max_tokens": 4})
    prepared = prepare(wanted)
    evaluation = await measured(wanted, prepared)
    assert isinstance(evaluation.figures, GenerationFigures)
    assert evaluation.figures.lines == len(prepared.split.test)
    assert {tuple(each.line) for each in evaluation.candidates} == {("prompt", "expect")}


@pytest.mark.parametrize(("match", "found"), [("exact", False), ("words", True)])
async def test_the_same_words_are_an_exact_match_where_words_are_compared(
    settings: Settings, match: str, found: bool
) -> None:
    # One answer in 21 is " this".
    lines = [{"prompt": f"say {n}", "completion": "This!"} for n in range(200)]
    half = GENERATION | {"split": {"calibration": 0, "test": 0.5}}
    wanted = settings(lines, **half, evaluation={"match": match, "max_tokens": 1})
    evaluation = await measured(wanted, prepare(wanted))
    assert isinstance(evaluation.figures, GenerationFigures)
    assert (evaluation.figures.exact_match > 0) is found


@pytest.mark.parametrize(
    ("match", "expect", "answer", "valid"),
    [
        ("json", {"a": 1}, "[2]", True),
        ("json", {"a": 1}, "a", False),
        ("tool_calls", CALL, CALL.replace("f", "g"), True),
        ("tool_calls", CALL, CALL.replace("}}", "}"), False),
        ("tool_calls", CALL, "I cannot.", False),
        ("tool_calls", "I cannot.", "I can.", True),
    ],
)
def test_the_form_of_an_answer(match: str, expect: Any, answer: str, valid: bool) -> None:
    assert is_well_formed(GenerationExample(prompt="a", expect=expect), answer, match) is valid
