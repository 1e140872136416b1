"""Text of an answer that is held until a guard has read it."""

import pytest

from service.errors import OutputFlagged
from service.plugins.guards.held import HeldTexts
from tests.plugins.guards.shouting import Shouting

FIRST, SECOND = "The first sentence is this one. ", "The second sentence is this one. "


async def test_sentences_are_released_once_they_are_complete() -> None:
    guard = Shouting()
    texts = HeldTexts(guard, tokens=False, structured=True)
    sent = ""
    for character in FIRST + SECOND:
        texts.add(0, character, ended=False)
        if texts.ready:
            sent += (await texts.released())[0]
    assert sent == (FIRST + SECOND).upper()
    texts.add(0, "end", ended=True)
    assert texts.ready
    assert await texts.released() == {0: "END"}
    assert guard.read_texts == [(FIRST, True), (SECOND, True), ("end", True)]
    assert guard.waits == 3


async def test_a_sequence_waits_for_itself_alone() -> None:
    texts = HeldTexts(Shouting(), tokens=False, structured=False)
    texts.add(0, "The first", ended=False)
    texts.add(1, FIRST + "Sec", ended=False)
    assert texts.ready
    assert await texts.released() == {0: "", 1: FIRST.upper()}
    assert not texts.ready
    texts.add(1, "ond", ended=True)
    assert await texts.released() == {0: "", 1: "SECOND"}
    texts.add(0, "", ended=True)
    assert await texts.released() == {0: "THE FIRST"}


async def test_where_tokens_show_all_that_came_is_read_at_once() -> None:
    texts = HeldTexts(Shouting(), tokens=True, structured=False)
    texts.add(0, FIRST + "Sec", ended=False)
    texts.add(1, "The first", ended=False)
    assert not texts.ready  # the tokens of sequence 1 would show with those of 0
    texts.add(1, " ends.", ended=True)
    assert await texts.released() == {0: (FIRST + "Sec").upper(), 1: "THE FIRST ENDS."}


async def test_space_alone_is_not_read_and_a_refusal_is_raised() -> None:
    guard = Shouting()
    texts = HeldTexts(guard, tokens=False, structured=False)
    texts.add(0, " \n", ended=True)
    assert await texts.released() == {0: " \n"}
    assert not guard.read_texts
    texts.add(0, "a secret", ended=True)
    with pytest.raises(OutputFlagged):
        await texts.released()
