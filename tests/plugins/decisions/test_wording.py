"""How questions are written, and that each wording's words stand for the right answers."""

import asyncio

import numpy as np
import pytest

from service.adapters.decisions import AskingRecord
from service.errors import QueueFull, ServiceError, TooManyRequests
from service.plugins.decisions.asking import Decided, calibrated, decide_all
from service.plugins.decisions.body import Asking, Choice, Level, Option, Predicate, Score
from service.plugins.decisions.wording import wordings

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


class Narrow:
    """A decider that refuses questions while it answers as many as it has room for."""

    def __init__(self, room: int, error: ServiceError) -> None:
        self.room, self.error, self.refused = room, error, 0

    async def decide(self, question: Asking, place: str) -> Decided:
        if not self.room:
            self.refused += 1
            raise self.error
        self.room -= 1
        await asyncio.sleep(0)
        self.room += 1
        return Decided(np.array([1.0, 0.0]), int(place[10:-1]), 0)


async def test_an_admitted_request_is_answered_whole_in_a_full_queue() -> None:
    narrow = Narrow(2, QueueFull("full"))
    found = await decide_all(narrow, [LATE] * 64, 32, lambda: False)
    assert [each.prompt_tokens for each in found] == list(range(64))
    assert 0 < narrow.refused < 200


async def test_few_questions_are_asked_while_the_engine_is_crowded() -> None:
    narrow = Narrow(4, QueueFull("full"))
    found = await decide_all(narrow, [LATE] * 64, 32, lambda: True)
    assert (len(found), narrow.refused) == (64, 0)


@pytest.mark.parametrize(
    ("room", "error"),
    [(0, QueueFull("full")), (2, TooManyRequests("quota", code="rate_limit_exceeded"))],
)
async def test_what_waiting_does_not_help_is_refused(room: int, error: ServiceError) -> None:
    with pytest.raises(type(error)):
        await decide_all(Narrow(room, error), [LATE] * 8, 8, lambda: False)
