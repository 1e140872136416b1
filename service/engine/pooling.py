"""Roles of an encoder's engine: values of texts and of pairs of texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.engine.conformal_sets import ConformalSets
from service.engine.protocol import Pulse
from service.engine.reference import Reference

EncoderTask = Literal["embed", "score", "classify"]
"""Work of an encoder: a text's vector, a pair's score, or the labels of a trained head."""


GuardThreshold = tuple[Sequence[str], float]
"""Labels, and the probability from which a guard of these flags a text."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """An encoder as served.

    `labels` are those of its head, in the order of its values; `multi_label` if each of them
    applies by itself; `temperature` divides its values. `conformal`, `guard` and `reference` are
    its manifest's, if it has them. `width` is the number of values of a text. `dimensions` are the
    shorter vectors that an embedding may be cut to (Matryoshka), from 1 to `width`; None if it may
    not.
    """

    name: str
    digest: str
    task: EncoderTask
    max_model_len: int
    max_num_seqs: int
    width: int
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    temperature: float = 1.0
    conformal: ConformalSets | None = None
    guard: GuardThreshold | None = None
    reference: Reference | None = None
    dimensions: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens that the encoder reads at once, special ones included.

    `second_at` is the index of the first token of a pair's second text, in models that need it to
    tell the texts apart. `cut` is true if the text was longer than the model's context.
    """

    token_ids: list[int] = field(repr=False)
    second_at: int | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Pooled:
    """Values of one passage, [width] or as many as `dimensions` asked for, and their tokens."""

    values: npt.NDArray[np.float32]
    prompt_tokens: int
    cached_tokens: int


class Pooler(Protocol):
    """Values of texts: an embedding, one score of a pair, or one logit for each label."""

    @property
    def info(self) -> EncoderInfo: ...

    async def read(
        self, text: str, second: str | None = None, *, truncate: bool = False
    ) -> Passage:
        """Tokenise a text or a pair, in the tenant's fair turn.

        Raises InvalidRequest for more tokens than the model's context, unless these are to be cut;
        TooManyRequests, QueueFull or DeadlineExceeded.
        """

    def passage(self, token_ids: Sequence[int], *, truncate: bool = False) -> Passage:
        """A passage of the caller's own tokens; InvalidRequest for unknown ones and too many."""

    async def pool(
        self, passage: Passage, dimensions: int | None = None, *, raw: bool = False
    ) -> Pooled:
        """The values of a passage, under a permit of the engine's gate.

        With `raw` the encoder's last function is left out: an embedding is not normalised, a score
        is a logit.

        Raises QueueFull, TooManyRequests, DeadlineExceeded or EngineDead.
        """


class EncoderEngine(Pooler, Pulse, Protocol):
    """Every role of one encoder, which the service starts, warms up and stops."""

    async def warm_up(self) -> None:
        """Make the first step, past the gate, so that no user waits for what it loads."""

    async def stop(self) -> None:
        """End the engine and free what it holds."""
