"""How questions are written, and that each wording's words stand for the right answers."""

import numpy as np
import pytest

from service.adapters.decisions import AskingRecord
from service.plugins.decisions.asking import calibrated
from service.plugins.decisions.body import Choice, Level, Option, Predicate, Score
from service.plugins.decisions.wording import Asking, wordings

LATE = Predicate(type="predicate", instructions="It is late.")
COLOURS = Choice(
    type="choice",
    instructions="Which colour?",
    choices=[Option(value=each) for each in ("red", "green", "blue", "grey")],
)
URGENCY = Score(
    type="score",
    instructions="How urgent?",
    levels=[Level(label=each) for each in ("low", "medium", "high")],
)
MANY = Choice(
    type="choice", instructions="Which?", choices=[Option(value=f"no {n}") for n in range(27)]
)


@pytest.mark.parametrize("question", [LATE, COLOURS, URGENCY, MANY])
def test_unlisted_answers_are_asked_once_and_stand_in_no_text(question: Asking) -> None:
    (found,) = wordings(question, AskingRecord(orders=4))
    assert question.text in found.text
    assert not any(word in found.text.removeprefix(" Is this true?") for word in ("red", "low"))
    assert found.order == tuple(range(len(found.words)))


def test_described_answers_are_always_listed() -> None:
    described = COLOURS.model_copy(
        update={"choices": [Option(value="red", description="as blood"), Option(value="blue")]}
    )
    first, second = wordings(described, AskingRecord())
    assert "- red: as blood\n- blue" in first.text
    assert "- blue\n- red: as blood" in second.text


@pytest.mark.parametrize("answers", ["listed", "letters"])
@pytest.mark.parametrize("orders", [1, 2, 4, 8])
def test_each_order_names_every_answer_once(answers: str, orders: int) -> None:
    how = AskingRecord.model_validate({"answers": answers, "orders": orders})
    found = wordings(COLOURS, how)
    assert len(found) == min(orders, 4)
    assert len({each.order[0] for each in found}) == len(found)
    for each in found:
        assert sorted(each.order) == [0, 1, 2, 3]
        names = [COLOURS.choices[place].word for place in each.order]
        places = [each.text.index(name) for name in names]
        assert places == sorted(places)
        assert list(each.words) == (names if answers == "listed" else list("ABCD"))


def test_levels_are_turned_around_and_never_mixed() -> None:
    up, down = wordings(URGENCY, AskingRecord(answers="listed", orders=8))
    assert "the lowest first:\n- low\n- medium\n- high" in up.text
    assert "the highest first:\n- high\n- medium\n- low" in down.text


def test_more_answers_than_letters_are_asked_by_their_texts() -> None:
    (found,) = wordings(MANY, AskingRecord(answers="letters", orders=1))
    assert found.words[-1] == "no 26"


def test_a_calibration_moves_a_predicate_and_softens_all() -> None:
    even = np.log([0.5, 0.5])
    assert calibrated(even, LATE, AskingRecord(bias=1.0))[0] > 0.7
    sure = np.log([0.9, 0.05, 0.03, 0.02])
    soft = calibrated(sure, COLOURS, AskingRecord(temperature=4.0, bias=1.0))
    assert soft.argmax() == 0
    assert 0.25 < soft[0] < 0.6
