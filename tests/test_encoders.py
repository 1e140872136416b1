"""Scores of pairs from the values of what is read for them."""

import numpy as np
import pytest

from service.common.aio import slots_for
from service.encoders import Pair, PairReads
from service.engine.contract import Pooled

PAIRS: list[Pair] = [("q", "a"), ("q", "b"), ("q", "q")]


def pooled(*vectors: tuple[float, ...]) -> list[Pooled]:
    return [Pooled(np.array(vector, np.float32), 1, 0) for vector in vectors]


def test_a_cross_encoder_reads_each_pair() -> None:
    reads = PairReads.of("score", PAIRS)
    assert reads.inputs == PAIRS
    assert reads.scores(pooled((0.5,), (0.25,), (1.0,))) == [0.5, 0.25, 1.0]
    assert reads.place(1, "query", "documents") == "documents[1]"


def test_an_embedding_model_reads_each_text_once() -> None:
    reads = PairReads.of("embed", PAIRS)
    assert reads.inputs == ["q", "a", "b"]
    scores = reads.scores(pooled((2.0, 0.0), (0.0, 3.0), (1.0, 1.0)))
    assert scores == pytest.approx([0.0, 2**-0.5, 1.0])


def test_a_vector_of_zeros_is_like_no_other() -> None:
    reads = PairReads.of("embed", [("a", "b")])
    assert reads.scores(pooled((0.0, 0.0), (1.0, 0.0))) == [0.0]


def test_a_texts_place_is_that_of_the_request() -> None:
    one = PairReads.of("embed", PAIRS)
    assert [one.place(each, "query", "documents") for each in range(3)] == [
        "query",
        "documents[0]",
        "documents[1]",
    ]
    many = PairReads.of("embed", [("a", "b"), ("c", "a")])
    places = [many.place(each, "text_1", "text_2") for each in range(3)]
    assert places == ["text_1[0]", "text_2[0]", "text_1[1]"]


@pytest.mark.parametrize(("inputs", "slots"), [(1, 4), (6, 6), (100, 8)])
def test_a_request_takes_as_many_slots_as_it_has_inputs_within_bounds(
    inputs: int, slots: int
) -> None:
    assert slots_for(8, inputs) == slots
    assert slots_for(2, inputs) == 2
