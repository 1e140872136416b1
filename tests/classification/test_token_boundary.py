import re
from zlib import crc32

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.classification.frame import TokenBoundary, read_labels, spell
from service.errors import InvalidRequest
from tests.classification.bpe import encoder

FAMILIES = ["gpt2", "llama3", "sentencepiece"]
CHAT = "<|im_end|>\n<|im_start|>assistant\n"
TAILS = ["\nSentiment:", "\n\nThe sentiment is", " ->", CHAT]

pieces = st.sampled_from(
    ["film", " ", "\n", "\n\n", ".", "!", "'", '"', ":", "1", "中", "😀", "\t"]
)
inputs = st.lists(st.one_of(pieces, st.text(max_size=3)), min_size=1, max_size=8).map("".join)
names = st.one_of(
    st.text(min_size=1, max_size=5),
    st.sampled_from(["positive", "New York", "turn_on", "!", "'s", "中文", "😀", "-1", "é", ">"]),
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tail", TAILS)
@given(text=inputs, name=names)
@settings(deadline=None, max_examples=150)
def test_a_label_read_at_the_seam_is_right_after_every_prompt_that_joins(
    family: str, tail: str, text: str, name: str
) -> None:
    encode = encoder(family)
    seam = TokenBoundary.find(encode, tail)
    prompt = f"Review: {text}{tail}"
    words = spell(name, tail)
    try:
        (label,) = read_labels(encode, seam.context, [(name, words)], max_tokens=64)
    except InvalidRequest:
        assume(False)
    assert seam.joins(encode(prompt))
    assert [*encode(prompt), *label.token_ids] == encode(prompt + words)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tail", TAILS)
def test_only_prompts_that_end_with_the_last_word_of_the_template_join(
    family: str, tail: str
) -> None:
    encode = encoder(family)
    seam = TokenBoundary.find(encode, tail)
    assert seam.joins(encode("anything" + tail))
    assert not seam.joins(encode("anything" + tail + "?"))
    assert not seam.joins(seam.token_ids[1:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tail", ["", " ", "\n", "\t\n "])
def test_refuses_a_template_without_a_word_after_the_input(family: str, tail: str) -> None:
    with pytest.raises(InvalidRequest, match="needs a word after the input"):
        TokenBoundary.find(encoder(family), tail)


@pytest.mark.parametrize("tail", ["film", "->", "'s", "."])
def test_refuses_a_template_whose_only_word_may_merge_with_the_input(tail: str) -> None:
    def encode(text: str) -> list[int]:
        # Splits at white space only, so whatever touches is one token.
        return [crc32(word.encode()) for word in text.split()]

    with pytest.raises(InvalidRequest, match="merges with the end of the input"):
        TokenBoundary.find(encode, tail)


def test_refuses_a_template_of_which_only_the_last_token_is_stable() -> None:
    def encode(text: str) -> list[int]:
        # One token a character, but a dot takes the dash after it.
        return [sum(map(ord, token)) for token in re.findall(r"(?s)\.-|.", text)]

    assert encode("a->")[-1] == encode(".->")[-1]
    with pytest.raises(InvalidRequest, match="merges with the end of the input"):
        TokenBoundary.find(encode, "->")


def test_a_trailing_space_that_would_merge_with_every_label_is_refused_by_the_label() -> None:
    encode = encoder("gpt2")
    seam = TokenBoundary.find(encode, "\nSentiment: ")
    with pytest.raises(InvalidRequest, match="label 'good' cannot be read"):
        read_labels(encode, seam.context, [("good", "good")], max_tokens=64)


@pytest.mark.parametrize(
    ("name", "tail", "words"),
    [
        ("positive", "\nSentiment:", " positive"),
        ("positive", CHAT, "positive"),
        ("positive", "Sentiment: ", "positive"),
        (" positive", "Sentiment:", " positive"),
        ("positive", "", "positive"),
        ("😀", "It is", " 😀"),
    ],
)
def test_a_space_sets_a_label_off_unless_one_is_there(name: str, tail: str, words: str) -> None:
    assert spell(name, tail) == words
