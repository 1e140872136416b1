"""Inputs of a request to an encoder, pooled concurrently, and the scores of pairs of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.common.aio import bounded_gather, slots_for
from service.common.error_messages import quote
from service.engine.contract import Pooled
from service.engine.pooling import EncoderInfo, EncoderTask, Passage, Pooler
from service.errors import InvalidRequest

Input = str | tuple[str, str] | list[int]
"""A text, a pair of texts, or the caller's own tokens."""


async def pool_all(
    pooler: Pooler,
    inputs: Sequence[Input],
    place: Callable[[int], str],
    *,
    most: int | None = None,
    dimensions: int | None = None,
    raw: bool = False,
) -> list[Pooled]:
    """The values of every input, in their order; the first failure ends the others.

    An input is tokenised only when its turn comes, and cut to `most` tokens. An InvalidRequest
    names the `place` of its input in the body. Raises what `Pooler` raises.
    """

    async def pool(numbered: tuple[int, Input]) -> Pooled:
        index, given = numbered
        try:
            passage = await _read(pooler, given, most)
        except InvalidRequest as error:
            raise add_place(error, place(index)) from error
        return await pooler.pool(passage, dimensions, raw=raw)

    slots = slots_for(pooler.info.max_num_seqs, len(inputs))
    return await bounded_gather(pool, list(enumerate(inputs)), slots)


async def _read(pooler: Pooler, given: Input, most: int | None) -> Passage:
    match given:
        case str():
            return await pooler.read(given, most=most)
        case (str(first), str(second)):
            return await pooler.read(first, second, most=most)
        case list():
            return pooler.passage(given, most=most)


def add_place(error: InvalidRequest, place: str) -> InvalidRequest:
    """A pooler's error of an input, with the input's place in the body."""
    param = place.partition("[")[0]
    return InvalidRequest(f"{place}: {error.message}", code=error.code, param=param)


_SAME_KIND = (
    ("query", "search_query", "retrieval.query"),
    ("document", "passage", "search_document", "retrieval.passage"),
)
"""Names that encoders and APIs (Cohere, Voyage, Jina) have for the two sides of a search."""


def prompt_of(info: EncoderInfo, field: str, kind: str | None) -> str:
    """The encoder's prompt for a kind of input; InvalidRequest where it has others only."""
    if kind is None or not info.prompts:
        return ""
    names = next((names for names in _SAME_KIND if kind in names), ())
    for name in (kind, *names):
        if name in info.prompts:
            return info.prompts[name]
    raise InvalidRequest.at(field, f"must be one of {', '.join(info.prompts)}, got {quote(kind)}")


Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PairReads:
    """Inputs that decide the scores of pairs.

    A cross-encoder reads each pair as one input. Other encoders read each distinct text once, and
    `ends` has the indices of each pair's two texts in the inputs.
    """

    inputs: Sequence[Input]
    ends: Sequence[tuple[int, int]] | None

    @classmethod
    def of(cls, task: EncoderTask, pairs: Sequence[Pair]) -> "PairReads":
        """The inputs that an encoder of this task reads for the pairs."""
        if task == "score":
            return cls(pairs, None)
        texts = dict.fromkeys(text for pair in pairs for text in pair)
        places = {text: place for place, text in enumerate(texts)}
        ends = [(places[first], places[second]) for first, second in pairs]
        return cls(list(places), ends)

    def place(self, index: int, first: str, second: str) -> str:
        """The place of an input in a request's body, whose lists have the names `first`, `second`.

        A pair that is read as one input has the place of its second text.
        """
        if self.ends is None:
            return f"{second}[{index}]"
        number, (left, _) = next(
            (number, ends) for number, ends in enumerate(self.ends) if index in ends
        )
        if index != left:
            return f"{second}[{number}]"
        only = all(each == left for each, _ in self.ends)
        return first if only else f"{first}[{number}]"

    def scores(self, pooled: Sequence[Pooled]) -> list[float]:
        """The score of every pair, from the values of the inputs."""
        if self.ends is None:
            return [float(each.values[0]) for each in pooled]
        # An embedding of zeros stays zero, so its score with any other is 0.
        vectors = unit(np.stack([each.values for each in pooled]))
        firsts, seconds = np.array(self.ends).T
        return [float(score) for score in np.sum(vectors[firsts] * vectors[seconds], axis=1)]


_LEAST = 1e-12


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The vectors of the last axis, each divided by its length; a vector of zeros stays zero."""
    wide = vectors.astype(np.float64)
    scaled: npt.NDArray[np.float64] = wide / np.maximum(
        np.linalg.norm(wide, axis=-1, keepdims=True), _LEAST
    )
    return scaled
