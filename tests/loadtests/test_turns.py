"""Ways that take turns, and what is said of them."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from loadtests.turns import median, median_ratio, take_turns


async def test_the_order_turns_over_with_every_round(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, int]] = []

    async def one(name: str, serial: int) -> float:
        asked.append((name, serial))
        return len(asked)

    ways: dict[str, Callable[[int], Awaitable[float]]] = {n: partial(one, n) for n in "ab"}
    assert await take_turns(ways, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert asked == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert capsys.readouterr().err.splitlines()[0] == "1/3 a: 1"


def test_a_ratio_is_of_each_round_by_itself() -> None:
    """Round by round the first is twice the second, whatever the machine did to both."""
    first, second = [2.0, 20.0, 200.0], [1.0, 10.0, 100.0]
    assert median(first, float) == 20
    assert median_ratio(first, second, float) == 2
