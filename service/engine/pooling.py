"""The interface of encoders, and classifiers' label sets and reference inputs."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from service.engine.contract import Pooled, Pulse

EncoderTask = Literal["embed", "score", "classify"]
"""Work of an encoder: a text's vector, a pair's score, or the labels of a trained head."""


GuardThreshold = tuple[Sequence[str], float]
"""Labels, and the probability from which a guard of these flags a text."""


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """Label sets that hold the true label of at least a share `coverage` of texts.

    A set holds every label whose probability is at least `least`. If several labels may apply, each
    has a threshold, and the promise holds for each label among the texts to which it applies.
    `level` is the share of texts whose set may miss the true label: 1 - coverage when fitted, later
    moved by feedback.
    """

    coverage: float
    least: float | tuple[float, ...]
    level: float

    @classmethod
    def fitted(cls, coverage: float, least: float | tuple[float, ...]) -> "ConformalSets":
        """Sets for `coverage`; the thresholds `least` were fitted to it on held-out lines."""
        return cls(coverage, least, missing(coverage))

    def at(self, level: float) -> "ConformalSets":
        """These fitted sets at another level.

        At a level of 0 or below a set holds every label, at 1 only labels of probability 1.
        Thresholds in between are interpolated linearly through that of the fitted level.
        """
        level = max(0.0, level)
        if isinstance(self.least, tuple):
            least = tuple(self._moved(each, level) for each in self.least)
            return replace(self, least=least, level=level)
        return replace(self, least=self._moved(self.least, level), level=level)

    def _moved(self, least: float, level: float) -> float:
        if level <= self.level:
            return least * (level / self.level)
        return 1 - (1 - least) * ((1 - level) / (1 - self.level))


def missing(coverage: float) -> float:
    """The share of sets that may miss the true label: 1 - coverage, corrected for rounding."""
    return round(1 - coverage, 12)


SCORE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Largest probability of each bin but the last."""
LENGTH_EDGES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Most characters of each bin but the last."""


class Reference(Protocol):
    """Histograms of typical inputs: by best label, by its probability, and by length."""

    @property
    def labels(self) -> Mapping[str, int]:
        """The number of inputs for each label."""

    @property
    def scores(self) -> Sequence[int]:
        """The number of inputs in each bin of `SCORE_EDGES`."""

    @property
    def lengths(self) -> Sequence[int]:
        """The number of inputs in each bin of `LENGTH_EDGES`."""


class InputCounts:
    """Counts inputs into the histograms of a `Reference`."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = dict.fromkeys(labels, 0)
        self.scores = [0] * (len(SCORE_EDGES) + 1)
        self.lengths = [0] * (len(LENGTH_EDGES) + 1)
        self.inputs = 0

    def add(self, label: str, score: float, characters: int) -> None:
        """Count an input with its best label."""
        self.labels[label] += 1
        self.scores[bisect_left(SCORE_EDGES, score)] += 1
        self.lengths[bisect_left(LENGTH_EDGES, characters)] += 1
        self.inputs += 1


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """An encoder as served.

    `labels` are those of its head, in the order of its logits, which are divided by `temperature`.
    `multi_label` is true if each label applies independently. `conformal`, `guard` and `reference`
    come from its manifest, if this has them. `width` is the number of values for a text.
    `dimensions` are the lengths, from 1 to `width`, to which an embedding may be cut (Matryoshka);
    None if it may not be. `truncate` says whether longer texts are cut if the request does not say.
    `prompts` are the texts that the model was trained to read before a query, a document, ...
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
    truncate: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)

    def most_tokens(self, truncate: bool | None, tokens: int | None = None) -> int | None:
        """Tokens that a request's texts are cut to; None if longer ones are refused.

        `tokens` is the request's own number, or -1 for the encoder's context.
        """
        if tokens is not None and tokens >= 0:
            return tokens
        cuts = self.truncate if truncate is None else truncate
        return self.max_model_len if cuts or tokens == -1 else None


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens that the encoder reads at once, special ones included.

    `second_at` is the index of the first token of a pair's second text, in models that need it to
    tell the texts apart. `cut` is true if the end of the text was left out.
    """

    token_ids: list[int] = field(repr=False)
    second_at: int | None = None
    cut: bool = False


class Pooler(Protocol):
    """Computes values of texts: an embedding, one score of a pair, or one logit for each label."""

    @property
    def info(self) -> EncoderInfo: ...

    async def read(
        self, text: str, second: str | None = None, *, most: int | None = None
    ) -> Passage:
        """Tokenise a text or a pair, in the tenant's fair turn; cut it to `most` tokens.

        Raises InvalidRequest for more tokens than the model's context, unless these are to be cut,
        and for a `most` that leaves no room for text; TooManyRequests, QueueFull or
        DeadlineExceeded.
        """

    def passage(self, token_ids: Sequence[int], *, most: int | None = None) -> Passage:
        """A passage of the caller's own tokens; InvalidRequest for unknown ones and too many."""

    async def pool(
        self, passage: Passage, dimensions: int | None = None, *, raw: bool = False
    ) -> Pooled:
        """The values of a passage, in slots of the engine.

        With `raw` the encoder's last function is left out: an embedding is not normalised, a score
        is a logit.

        Raises QueueFull, TooManyRequests, DeadlineExceeded or EngineDead.
        """


class EncoderEngine(Pooler, Pulse, Protocol):
    """One encoder, which the service starts, warms up and stops."""

    async def warm_up(self) -> None:
        """Make the first step, past admission control, so that no user waits for what it loads."""

    async def stop(self) -> None:
        """End the engine and free what it holds."""
