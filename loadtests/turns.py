"""Several ways measured in turns, so that the machine's noise meets them alike."""

import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

Round = TypeVar("Round")


async def take_turns(
    ways: Mapping[str, Callable[[int], Awaitable[Round]]], rounds: int
) -> dict[str, list[Round]]:
    """Run every way once a round, in an order that turns over with each; a line for each on stderr.

    A way is given the round's serial number.
    """
    results: dict[str, list[Round]] = {name: [] for name in ways}
    for serial in range(rounds):
        for name in ways if serial % 2 == 0 else reversed(list(ways)):
            found = await ways[name](serial)
            results[name].append(found)
            print(f"{serial + 1}/{rounds} {name}: {found}", file=sys.stderr, flush=True)
    return results


def median(rounds: Sequence[Round], figure: Callable[[Round], float]) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(map(figure, rounds))


def median_ratio(
    first: Sequence[Round], second: Sequence[Round], figure: Callable[[Round], float]
) -> float:
    """The median of the rounds' own ratios, first over second."""
    pairs = zip(first, second, strict=True)
    return statistics.median(figure(one) / figure(other) for one, other in pairs)
