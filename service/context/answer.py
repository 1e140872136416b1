"""Parts of a request's input and answer, kept for guards and for comparisons of versions."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.engine.contract import Sampling, Sink
from service.engine.pooling import ConformalSets


@dataclass(frozen=True, slots=True)
class FirstText:
    """Result of the first text of a classification."""

    labels: Sequence[str] = ()
    """Labels that the text was given, none if the answer abstained."""
    failed: bool = False
    score: float = 0.0
    """Probability of the best label, also if the answer abstained."""
    best: int | None = None
    """Index of the best label among the adapter's own labels.

    None for labels of the request and for labels that do not exclude each other.
    """
    label_set: Sequence[int] | None = None
    """Indices of the labels in the text's label set, None without a conformal calibration."""
    conformal: ConformalSets | None = None
    """The conformal calibration that made the label set."""


@dataclass(slots=True)
class Answer:
    """Facts of a request's answer; an extension of its context.

    `first_text` is the result of the request's first text; `first_result` is the first result that
    was ready, of any text.
    """

    first_text: FirstText | None = None
    first_result: FirstText | None = None
    structure_cut: bool | None = None
    """True if structured output was cut; None while there is none."""
    unenforced: tuple[str, ...] = ()
    """Keywords of the answer's schema that were checked on the whole answer alone."""


@dataclass(slots=True)
class ReplayText:
    """The first text of a classification and its answer, kept for a replay.

    `probs` are the probabilities of all labels, empty until there is an answer. `labels` are the
    answer's labels; an answer that abstains has none. `threshold` is the caller's.
    """

    text: str = field(default="", repr=False)
    threshold: float | None = None
    labels: Sequence[str] = field(default=(), repr=False)
    probs: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def answered(self) -> bool:
        """True once there is an answer."""
        return bool(self.probs)


class AnswerGuard(Protocol):
    """Checks the text of one request's answer before the caller gets it."""

    async def run(
        self,
        run: Callable[[Sink], Coroutine[Any, Any, None]],
        sink: Sink,
        sampling: Sampling,
    ) -> None:
        """Run a generation and pass its checked text to a sink; OutputFlagged for refused text."""


@dataclass(slots=True)
class Guarded:
    """The guards of a request; an extension of its context.

    `flags` are the labels that guards found in the request, each as `guard/label`. `answer` checks
    the answer before the caller gets it.
    """

    flags: tuple[str, ...] = ()
    answer: AnswerGuard | None = None
