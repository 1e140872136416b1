"""Noise in texts: the same at every run, and no more than is said."""

import pytest

from evaluation.noise import noisy

TEXT = "The waiter never came back, although the restaurant was nearly empty by then."


def test_typos_exchange_two_letters_in_one_word_of_five() -> None:
    changed = noisy(TEXT, "typos")
    assert changed == noisy(TEXT, "typos")
    assert sorted(changed) == sorted(TEXT)
    pairs = zip(TEXT.split(), changed.split(), strict=True)
    different = [(a, b) for a, b in pairs if a != b]
    assert 1 <= len(different) <= 2
    assert all(a[0] == b[0] and len(a) == len(b) for a, b in different)


@pytest.mark.parametrize("text", ["", "a bc def", "12345 6789"])
def test_a_text_without_long_words_has_no_typos(text: str) -> None:
    assert noisy(text, "typos") == text


def test_case_and_spacing() -> None:
    assert noisy("So it is", "case") == "SO IT IS"
    assert noisy("So it is", "spacing") == " So  it  is"
