import pytest

from service.admission.ticket import Prices
from tests.admission.tickets import ticket


def test_two_tickets_are_the_same_only_as_objects() -> None:
    assert len({ticket(), ticket()}) == 2


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_must_be_positive_and_finite(weight: float) -> None:
    with pytest.raises(ValueError, match=f"weight must be positive and finite, got {weight}"):
        ticket(weight=weight)


def test_a_ticket_takes_at_least_one_slot() -> None:
    with pytest.raises(ValueError, match="slots must be at least 1, got 0"):
        ticket(slots=0)


def test_token_counts_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="got -1 and 10"):
        ticket(prompt=-1)
    with pytest.raises(ValueError, match="got 10 and -2"):
        ticket(most=-2)


def test_cost_discounts_cached_tokens() -> None:
    prices = Prices(prompt=1.0, output=2.0, cached_discount=0.75)
    assert prices.cost(100) == 100
    assert prices.cost(100, cached=80) == 40
    assert prices.cost(100, cached=80, output=5) == 50


def test_prices_must_be_positive_and_the_discount_a_part() -> None:
    with pytest.raises(ValueError, match="prompt=0 and output=2"):
        Prices(prompt=0)
    with pytest.raises(ValueError, match="output=0"):
        Prices(output=0)
    assert Prices(output=0.5).cost(0, output=2) == 1
    with pytest.raises(ValueError, match=r"cached_discount must be in \[0, 1\], got 1.5"):
        Prices(cached_discount=1.5)
