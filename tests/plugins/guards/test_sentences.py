"""Pieces of a text that a guard reads one by one."""

import pytest

from service.plugins.guards.held import LEAST, MOST, complete, sentences

FIRST, SECOND = "The first sentence is this one. ", "And it costs 3.50 in all, or so? "


@pytest.mark.parametrize(
    "pieces",
    [
        [FIRST, SECOND, "The rest"],
        ["Yes. No. Perhaps. Then a longer one. ", FIRST],
        [f'"{FIRST.strip()}" ', SECOND],
        ["a line without any full stop\n", FIRST],
        ["\u4eca\u65e5\u306f" * LEAST + "\u3002", FIRST],
        [],
    ],
)
def test_a_text_is_cut_after_its_sentences(pieces: list[str]) -> None:
    assert sentences("".join(pieces)) == pieces


@pytest.mark.parametrize("text", ["word " * 300, "x" * 1000, "." * 1000, " " * 1000, "\n" * 1000])
def test_no_piece_is_too_long(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= MOST


def test_a_long_sentence_is_cut_between_words() -> None:
    assert all(piece.endswith("word ") for piece in sentences("word " * 300))


@pytest.mark.parametrize("text", [FIRST + SECOND + "The rest", "word " * 300, FIRST * 40])
def test_what_is_complete_stays_as_it_is_when_more_comes(text: str) -> None:
    taken, rest, whole = 0, "", []
    for character in text:
        rest += character
        if end := complete(rest):
            whole.append(rest[:end])
            taken, rest = taken + end, rest[end:]
    assert [*whole, *([rest] if rest else [])] == sentences(text)
