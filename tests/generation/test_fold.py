"""A whole answer as the sum of what the engine handed on."""

import pytest

from service.engine.contract import Output, Part
from service.generation.fold import Fold
from tools.fake_engine import FakeLikely

PLACE = {1: FakeLikely(-0.5, "a")}


def test_parts_and_texts_become_one_part_of_each_sequence() -> None:
    fold = Fold()
    texts = fold.take(Output([Part(0, "a", [1])], prompt_tokens=7, cached_tokens=5))
    assert texts is fold
    texts.add("b", 2)
    texts.release()
    fold.take(Output([Part(0, "c", [4], "stop", "c")], 7))
    assert fold.whole() == [Part(0, "abc", [], "stop", "c", None)]
    assert (fold.tokens, fold.cached_tokens) == (4, 5)


def test_sequences_are_told_apart_and_stand_in_their_order() -> None:
    fold = Fold(2)
    assert fold.take(Output([Part(1, "x", [1]), Part(0, "a", [2])], 7)) is None
    fold.take(Output([Part(1, "y", [3], "length")], 7))
    fold.take(Output([Part(0, "b", [4], "stop")], 7))
    assert [(part.text, part.finish_reason) for part in fold.whole()] == [
        ("ab", "stop"),
        ("xy", "length"),
    ]
    assert fold.tokens == 4


def test_with_details_the_tokens_and_their_log_probabilities_are_kept() -> None:
    fold = Fold(details=True)
    for text, reason in (("a", None), ("b", "stop")):
        part = Part(0, text, [1], reason, logprobs=[PLACE])
        assert (
            fold.take(Output([part], 7, prompt_logprobs=[None] if reason is None else None)) is None
        )
    assert fold.whole() == [Part(0, "ab", [1, 1], "stop", None, [PLACE, PLACE])]
    assert fold.prompt_logprobs == [None]


@pytest.mark.parametrize("details", [True, False])
def test_an_answer_that_begins_again_is_counted_from_nothing(details: bool) -> None:
    fold, fresh = Fold(2, details=details), Fold(2, details=details)
    fold.take(Output([Part(0, "lost", [1, 2]), Part(1, "lost", [3], "stop")], 7, 5))
    fold.restart()
    assert (fold.tokens, fold.first, fold.cached_tokens) == (0, None, 0)
    output = Output([Part(0, "a", [1], "stop"), Part(1, "b", [2], "length")], 7)
    for each in (fold, fresh):
        each.take(output)
    assert fold.whole() == fresh.whole()
    assert fold.first is output


def test_a_fold_changes_none_of_the_outputs_that_it_takes() -> None:
    fold = Fold(details=True)
    first = Part(0, "a", [1], logprobs=[PLACE])
    fold.take(Output([first], 7))
    fold.take(Output([Part(0, "b", [2], "stop", logprobs=[PLACE])], 7))
    assert first == Part(0, "a", [1], logprobs=[PLACE])
