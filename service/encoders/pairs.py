"""Scores of pairs of texts: by a cross-encoder's head, or by the cosine of two embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.encoders.passages import Input
from service.encoders.vectors import unit
from service.engine.pooling import EncoderTask, Pooled

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PairReads:
    """Inputs that decide the scores of pairs.

    A cross-encoder reads each pair as one input. The other encoders read each different text once;
    then `ends` has, for each pair, the places of its two texts among the inputs.
    """

    inputs: Sequence[Input]
    ends: Sequence[tuple[int, int]] | None

    @classmethod
    def of(cls, task: EncoderTask, pairs: Sequence[Pair]) -> "PairReads":
        """The inputs that an encoder of this task reads for the pairs."""
        if task == "score":
            return cls(pairs, None)
        places = {text: place for place, text in enumerate(dict.fromkeys(_texts(pairs)))}
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


def _texts(pairs: Sequence[Pair]) -> list[str]:
    return [text for pair in pairs for text in pair]
