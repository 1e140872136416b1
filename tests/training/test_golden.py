"""Golden examples: balanced, right, and half of them or more wrong for the base."""

from collections import Counter

from training.golden import Candidate, choose_golden


def candidate(number: int, label: str, *, right: bool = True, base: bool = False) -> Candidate:
    return Candidate({"input": str(number)}, label, right, base, number / 100)


def test_labels_go_round() -> None:
    given = [candidate(n, "a" if n % 10 else "b") for n in range(100)]
    chosen = choose_golden(given, 8, seed=0)
    assert Counter(each.label for each in chosen) == {"a": 4, "b": 4}


def test_wrong_answers_are_never_chosen() -> None:
    given = [candidate(n, "a", right=n == 3) for n in range(20)]
    assert [each.line for each in choose_golden(given, 8, seed=0)] == [{"input": "3"}]


def test_what_the_base_gets_wrong_comes_first() -> None:
    given = [candidate(n, "a", base=n % 4 > 0) for n in range(40)]
    chosen = choose_golden(given, 5, seed=0)
    assert not any(each.base_right for each in chosen)


def test_a_label_that_the_base_knows_is_there_too() -> None:
    given = [candidate(n, "a", base=n % 2 > 0) for n in range(90)]
    given += [candidate(n, "b", base=True) for n in range(90)]
    chosen = choose_golden(given, 8, seed=0)
    assert Counter(each.label for each in chosen) == {"a": 4, "b": 4}
    assert sum(each.base_right for each in chosen) == 4


def test_the_base_passes_no_more_than_half() -> None:
    given = [candidate(n, "a", base=n != 99) for n in range(100)]
    chosen = choose_golden(given, 8, seed=0)
    assert [each.base_right for each in chosen] == [False, True]
    assert choose_golden(given[:99], 8, seed=0) == []


def test_the_unsure_are_left_out() -> None:
    given = [candidate(n, "a") for n in range(100)]
    assert min(each.confidence for each in choose_golden(given, 20, seed=0)) >= 0.75


def test_without_sure_ones_the_unsure_half_is_left_out() -> None:
    given = [candidate(n, "a") for n in range(40)]
    assert min(each.confidence for each in choose_golden(given, 40, seed=0)) >= 0.2


def test_the_seed_decides() -> None:
    given = [candidate(n, "a") for n in range(100)]
    assert choose_golden(given, 5, 1) == choose_golden(given, 5, 1) != choose_golden(given, 5, 2)
