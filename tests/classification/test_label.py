import pytest

from service.classification.frame import Label, read_labels, shared_tokens
from service.engine.contract import MAX_LABELS
from service.errors import InvalidRequest
from tests.classification.bpe import encoder

ENCODE = encoder("gpt2")
PROMPT = "Review: the film was good.\nSentiment:"


def test_a_label_is_what_its_text_adds_to_the_prompt() -> None:
    labels = read_labels(ENCODE, PROMPT, [("pos", " positive"), ("😀", " 😀👍🏽")], max_tokens=64)
    assert [label.name for label in labels] == ["pos", "😀"]
    for label, text in zip(labels, [" positive", " 😀👍🏽"], strict=True):
        assert [*ENCODE(PROMPT), *label.token_ids] == ENCODE(PROMPT + text)


def test_the_start_of_a_text_is_not_taken_for_the_start_of_a_label() -> None:
    encode = encoder("sentencepiece")
    (label,) = read_labels(encode, "x\n", [("film", "film")], max_tokens=64)
    # Alone, this family writes the word as if a space stood before it.
    assert label != Label("film", tuple(encode("film")))
    assert [*encode("x\n"), *label.token_ids] == encode("x\nfilm")


def test_256_labels_cost_one_tokenisation_each_and_one_of_the_prompt() -> None:
    calls: list[str] = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return list(text.encode())

    words = [(f"label {at}", f" {at}") for at in range(MAX_LABELS)]
    assert len(read_labels(encode, PROMPT, words, max_tokens=64)) == MAX_LABELS
    assert len(calls) == 1 + MAX_LABELS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 labels given; the limits are 1 and 256"),
        ([("a", " a")] * 10_000, "10000 labels given; the limits are 1 and 256"),
        ([("a", " a"), ("", " b")], "label '' is blank"),
        ([(" \n", " b")], r"label ' \\n' is blank"),
        ([("none", "")], "label 'none' cannot be read: '' has no tokens"),
        ([("long", " film" * 65)], "label 'long' has 65 tokens; the limit is 64"),
        ([("x" * 999, " film" * 65)], "label 'x{60}…' has 65 tokens"),
    ],
)
def test_refuses_by_name_and_limit(words: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refusal:
        read_labels(ENCODE, PROMPT, words, max_tokens=64)
    assert refusal.value.param == "candidate_labels"


def test_refuses_a_label_that_changes_the_tokens_of_the_prompt() -> None:
    assert ENCODE("the film")[: len(ENCODE("the fi"))] != ENCODE("the fi")
    with pytest.raises(InvalidRequest, match="label 'movie' cannot be read: its text 'lm' merges"):
        read_labels(ENCODE, "the fi", [("movie", "lm")], max_tokens=64)


def test_tokens_are_shared_up_to_the_first_difference() -> None:
    assert shared_tokens((1, 2, 3), (1, 2, 4)) == 2
    assert shared_tokens((1, 2), (1, 2, 3)) == 2
    assert shared_tokens((), (1,)) == 0
