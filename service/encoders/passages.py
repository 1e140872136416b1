"""The inputs of one request, read and pooled concurrently."""

from collections.abc import Callable, Sequence

from service.common.aio import few_at_once
from service.engine.pooling import Passage, Pooled, Pooler
from service.errors import InvalidRequest

Input = str | tuple[str, str] | list[int]
"""A text, a pair of texts, or the caller's own tokens."""

_LEAST_SLOTS = 4


def slots_for(most: int, inputs: int) -> int:
    """Engine requests that a request of so many inputs may have at the gate at one time.

    One for each input, but at least four, because one input may take several reads; and never more
    than `most`, the number that the engine runs at once.
    """
    return min(most, max(_LEAST_SLOTS, inputs))


async def pool_all(
    pooler: Pooler,
    inputs: Sequence[Input],
    place: Callable[[int], str],
    *,
    truncate: bool = False,
    dimensions: int | None = None,
    raw: bool = False,
) -> list[Pooled]:
    """The values of every input, in their order; the first failure ends the others.

    An input is tokenised only when its turn comes. An InvalidRequest names the `place` of its input
    in the body. Raises what `Pooler` raises.
    """

    async def pool(numbered: tuple[int, Input]) -> Pooled:
        index, given = numbered
        try:
            passage = await _read(pooler, given, truncate)
        except InvalidRequest as error:
            raise placed(error, place(index)) from error
        return await pooler.pool(passage, dimensions, raw=raw)

    slots = slots_for(pooler.info.max_num_seqs, len(inputs))
    return await few_at_once(pool, list(enumerate(inputs)), slots)


async def _read(pooler: Pooler, given: Input, truncate: bool) -> Passage:
    match given:
        case str():
            return await pooler.read(given, truncate=truncate)
        case (str(first), str(second)):
            return await pooler.read(first, second, truncate=truncate)
        case list():
            return pooler.passage(given, truncate=truncate)


def placed(error: InvalidRequest, place: str) -> InvalidRequest:
    """A pooler's error of an input, with the input's place in the body."""
    param = place.partition("[")[0]
    return InvalidRequest(f"{place}: {error.message}", code=error.code, param=param)
