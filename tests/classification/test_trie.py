import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.classification.frame import Label
from service.classification.scorer import LabelTrie, Read
from service.engine.contract import MAX_READ_IDS
from service.errors import InvalidRequest, ServiceError
from tests.classification.bpe import encoder
from tests.classification.next_token_model import (
    alternatives,
    answers,
    constrained_decoding,
)

END, OTHER_END = 0, 1


def labels_of(*paths: tuple[int, ...]) -> list[Label]:
    return [Label(f"label {at}", path) for at, path in enumerate(paths)]


# Few tokens, so that labels share prefixes and are prefixes of each other most of the time.
paths = st.lists(st.integers(2, 5), min_size=1, max_size=6).map(tuple)
label_sets = st.lists(paths, min_size=1, max_size=14, unique=True).map(lambda p: labels_of(*p))
ends = st.sampled_from([(END,), (END, OTHER_END)])


def assert_exact(labels: list[Label], ends: tuple[int, ...]) -> LabelTrie:
    trie = LabelTrie.build(labels, ends)
    probabilities = [math.exp(value) for value in trie.combine(answers(trie))]
    assert probabilities == pytest.approx(constrained_decoding(labels, ends), abs=1e-9, rel=1e-9)
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)
    return trie


@given(label_sets, ends)
@settings(max_examples=500, deadline=None)
def test_equals_constrained_decoding(labels: list[Label], ends: tuple[int, ...]) -> None:
    assert_exact(labels, ends)


spoken = st.one_of(
    st.text(min_size=1, max_size=6),
    st.sampled_from(["New", "New York", "New Zealand", "turn_on", "turn", "👍", "👍🏽"]),
    st.sampled_from(["café", "cafe", "très bon", "中文", "中文 情感", "(a)", "😀", "😀😀"]),
)


@given(st.lists(spoken, min_size=1, max_size=12, unique=True))
@settings(deadline=None)
def test_equals_constrained_decoding_over_any_text(texts: list[str]) -> None:
    encode = encoder("gpt2")
    assert_exact([Label(text, tuple(encode(" " + text))) for text in texts], (END, OTHER_END))


@given(label_sets, ends)
def test_reads_every_place_that_decides_and_no_other(
    labels: list[Label], ends: tuple[int, ...]
) -> None:
    reads = LabelTrie.build(labels, ends).reads
    assert {read.prefix: len(read.token_ids) for read in reads} == alternatives(labels, ends)
    assert len({read.prefix for read in reads}) == len(reads)


@given(label_sets, ends, st.data())
def test_every_token_read_matters(
    labels: list[Label], ends: tuple[int, ...], data: st.DataObject
) -> None:
    trie = LabelTrie.build(labels, ends)
    rows = answers(trie)
    before = trie.combine(rows)
    if rows:
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.integers(0, len(row) - 1))] += 5
        assert trie.combine(rows) != pytest.approx(before, abs=1e-9)


@given(label_sets, ends)
def test_the_order_of_the_labels_does_not_matter(
    labels: list[Label], ends: tuple[int, ...]
) -> None:
    def by_name(labels: list[Label]) -> dict[str, float]:
        trie = LabelTrie.build(labels, ends)
        scores = trie.combine(answers(trie))
        return dict(zip(trie.names, scores, strict=True))

    assert by_name(labels[::-1]) == pytest.approx(by_name(labels), abs=1e-12)


def test_distinct_first_tokens_take_one_read_at_the_prompt() -> None:
    trie = assert_exact(labels_of((5, 6, 7), (8, 9), (10,)), (END,))
    assert trie.reads == (Read((), (5, 8, 10)),)


def test_a_shared_prefix_is_not_read() -> None:
    trie = assert_exact(labels_of((5, 6, 7), (5, 6, 8)), (END,))
    assert trie.reads == (Read((5, 6), (7, 8)),)


def test_the_end_of_a_label_that_begins_another_is_an_alternative() -> None:
    trie = assert_exact(labels_of((5,), (5, 6)), (END, OTHER_END))
    assert trie.reads == (Read((5,), (6, END, OTHER_END)),)
    # The end tokens' shares add up: 1/4 + 1/4 against 1/2.
    shorter, longer = trie.combine([[math.log(0.2), math.log(0.1), math.log(0.1)]])
    assert (math.exp(shorter), math.exp(longer)) == pytest.approx((0.5, 0.5))


def test_a_single_label_is_certain_and_takes_no_read() -> None:
    trie = LabelTrie.build(labels_of((5, 6)), (END,))
    assert trie.reads == ()
    assert trie.combine([]) == (0.0,)


@pytest.mark.parametrize(
    ("children", "sizes"), [(128, [128]), (129, [128, 1]), (300, [128, 128, 44])]
)
def test_a_node_is_read_in_parts_of_at_most_128_tokens(children: int, sizes: list[int]) -> None:
    trie = assert_exact(labels_of(*((token,) for token in range(2, 2 + children))), (END,))
    assert [len(read.token_ids) for read in trie.reads] == sizes
    assert {read.prefix for read in trie.reads} == {()}


def test_the_end_token_counts_towards_the_128() -> None:
    tokens = range(2, 2 + MAX_READ_IDS)
    trie = assert_exact(labels_of((2,), *((2, token) for token in tokens)), (END,))
    assert [len(read.token_ids) for read in trie.reads] == [128, 1]


def test_256_labels_of_two_levels() -> None:
    trie = assert_exact(labels_of(*((2 + at // 16, 2 + at % 16) for at in range(256))), (END,))
    assert [len(read.token_ids) for read in trie.reads] == [16] * 17


def test_256_labels_each_the_beginning_of_the_next() -> None:
    labels = labels_of(*((7,) * length for length in range(1, 257)))
    trie = LabelTrie.build(labels, (END,))
    assert [read.prefix for read in trie.reads] == [(7,) * length for length in range(1, 256)]
    # Half of what is left stops at each step: the n-th label has (1/2)^n, the last two share.
    scores = trie.combine([[math.log(0.3), math.log(0.3)]] * 255)
    halvings = [*range(1, 256), 255]
    assert scores == pytest.approx([-n * math.log(2) for n in halvings], rel=1e-12)


def test_probabilities_below_the_smallest_float_stay_exact() -> None:
    trie = LabelTrie.build(labels_of((5,), (6, 7), (6, 8)), (END,))
    certain, first, second = trie.combine([[-1.0, -2001.0], [-5000.0, -5000.0]])
    assert certain == 0
    assert first == second == pytest.approx(-2000 - math.log(2), rel=1e-12)


def test_an_impossible_end_leaves_the_longer_label() -> None:
    trie = LabelTrie.build(labels_of((5,), (5, 6)), (END, OTHER_END))
    assert trie.combine([[-1.0, -math.inf, -math.inf]]) == (-math.inf, 0.0)


def test_an_impossible_label_has_probability_zero() -> None:
    trie = LabelTrie.build(labels_of((5,), (6,)), (END,))
    assert trie.combine([[-1.0, -math.inf]]) == (0.0, -math.inf)


@pytest.mark.parametrize(
    "row", [[math.nan, -1.0], [-1.0, math.nan], [-math.inf, -math.inf], [math.inf, -1.0]]
)
def test_what_is_no_log_probability_is_an_error(row: list[float]) -> None:
    trie = LabelTrie.build(labels_of((5,), (6,)), (END,))
    with pytest.raises(
        ServiceError, match=r"^The model gave no usable probability to any label\.$"
    ):
        trie.combine([row])


@pytest.mark.parametrize("rows", [[], [[-1.0]], [[-1.0, -1.0, -1.0]], [[-1.0, -1.0]] * 2])
def test_answers_of_another_shape_are_a_fault_of_the_caller(rows: list[list[float]]) -> None:
    trie = LabelTrie.build(labels_of((5,), (6,)), (END,))
    with pytest.raises(
        ValueError, match=r"^the log-probabilities do not have the shape of the trie's reads$"
    ):
        trie.combine(rows)


@pytest.mark.parametrize(
    ("labels", "ends", "message"),
    [
        ([Label("a", (5,)), Label("a", (6,))], (END,), "label 'a' is given twice"),
        ([Label("a", (5,)), Label("b", (5,))], (END,), "'a' and 'b' are the same tokens"),
        ([Label("a", (5, END, 6))], (END,), "label 'a' contains token 0"),
        ([Label("ab", (5, 6)), Label("a", (5,))], (), "label 'a' begins label 'ab'"),
    ],
)
def test_refuses_what_cannot_be_told_apart(
    labels: list[Label], ends: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refusal:
        LabelTrie.build(labels, ends)
    assert refusal.value.param == "candidate_labels"
