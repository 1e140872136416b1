import math

from service.admission.load_shedding import Lengths
from tests.admission.requests import request


def seen(*outputs: int, tenant: str = "a", most: int = 1000) -> Lengths:
    lengths = Lengths()
    for output in outputs:
        lengths.add(request(tenant, most=most), output, late=False)
    return lengths


def test_nothing_is_expected_before_anything_was_seen() -> None:
    lengths = Lengths()
    assert lengths.expected(request(most=100)) == 0
    assert lengths.needed(request(most=100), possible=5) == 1
    assert lengths.needed(request(most=100), possible=1) == 1
    assert lengths.needed(request(most=100), possible=0.5) == math.inf


def test_a_tenant_is_judged_by_its_own_answers_a_new_one_by_all() -> None:
    lengths = seen(10, 20)
    for _ in range(2):
        lengths.add(request("b", most=1000), 300, late=False)
    assert lengths.expected(request("a", most=1000)) == 15
    assert lengths.expected(request("b", most=1000)) == 300
    assert lengths.expected(request("new", most=1000)) == (10 + 20 + 300 + 300) / 4


def test_an_answer_never_exceeds_its_allowance() -> None:
    assert seen(10, 90).expected(request(most=30)) == 20


def test_output_counts_per_sequence() -> None:
    lengths = Lengths()
    lengths.add(request(slots=4, most=100), 40, late=False)
    assert lengths.expected(request(most=100)) == 10


def test_one_token_needs_no_guess_and_leaves_no_sample() -> None:
    lengths = seen(1, most=1)
    assert lengths.expected(request(most=500)) == 0
    assert lengths.expected(request(most=1)) == 1
    assert lengths.needed(request(most=1), possible=0.5) == math.inf
    assert lengths.needed(request(most=1), possible=1.0) == 1


def test_two_tokens_are_guessed() -> None:
    lengths = seen(1, most=2)
    assert lengths.expected(request(most=500)) == 1
    assert lengths.expected(request(most=2)) == 1
    assert lengths.needed(request(most=2), possible=2) == 1


def test_needed_serves_95_percent_of_what_is_possible() -> None:
    lengths = seen(*range(1, 41))
    assert lengths.needed(request(most=1000), possible=math.inf) == 38
    assert lengths.needed(request(most=1000), possible=20) == 19
    assert lengths.needed(request(most=30), possible=math.inf) == 30
    assert lengths.needed(request(most=1000), possible=0.5) == math.inf


def test_an_answer_needs_a_token_even_after_ones_without() -> None:
    lengths = seen(0)
    assert lengths.needed(request(most=1000), possible=2) == 1


def test_a_late_answer_needed_more_than_it_got() -> None:
    lengths = seen(10)
    lengths.add(request(most=1000), 25, late=True)
    assert lengths.needed(request(most=1000), possible=30) == 10
    assert lengths.needed(request(most=40), possible=40) == 40


def test_only_the_latest_64_are_kept() -> None:
    lengths = seen(*[500] * 64, *[10] * 64)
    assert lengths.expected(request(most=1000)) == 10
