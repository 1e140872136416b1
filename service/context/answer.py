"""What a request keeps of its question and answer, for guards and for those who rate versions."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.engine.contract import Sink
from service.engine.pooling import ConformalSets
from service.engine.protocol import Sampling


@dataclass(frozen=True, slots=True)
class FirstText:
    """Result of the first text of a classification."""

    labels: Sequence[str] = ()
    """Labels that the text was given, none if the answer abstained."""
    failed: bool = False
    score: float = 0.0
    """Probability of the best label, also if the answer abstained."""
    best: int | None = None
    """Place of the best label among the adapter's own.

    None for labels of the request and for labels that do not exclude each other.
    """
    label_set: Sequence[int] | None = None
    """Places of the labels in the text's label set, None without a conformal calibration."""
    conformal: ConformalSets | None = None
    """The conformal calibration that made the label set."""


@dataclass(slots=True)
class Answer:
    """The answer of a request: an extension of its record.

    `first_text` is the result of the first text that it had classified, `first_result` that of the
    text that was classified first, whichever it is.
    """

    first_text: FirstText | None = None
    first_result: FirstText | None = None
    structure_cut: bool | None = None
    """True if an answer of a requested structure was cut; None without such an answer."""


@dataclass(slots=True)
class ReplayText:
    """The first text of a classification, and its answer.

    `probs` are the labels' probabilities, all of them once it is answered; `labels` those that were
    given, none if the answer abstained. `threshold` is the caller's.
    """

    text: str = field(default="", repr=False)
    threshold: float | None = None
    labels: Sequence[str] = field(default=(), repr=False)
    probs: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def answered(self) -> bool:
        """True once there is an answer."""
        return bool(self.probs)


@dataclass(slots=True)
class ReplayGeneration:
    """The first generation of a request, and the token ids of its first answer.

    `repeatable` if the same model answers the same tokens again, as nothing is sampled, or with a
    seed. `cut` is True if an answer of a requested structure was cut, None without such an answer.
    """

    prompt: Sequence[int] = field(default=(), repr=False)
    sampling: Sampling | None = field(default=None, repr=False)
    repeatable: bool = False
    tokens: list[int] = field(default_factory=list, repr=False)
    cut: bool | None = None

    def ask(self, prompt: Sequence[int], sampling: Sampling) -> bool:
        """Keep a generation; False if there is one already."""
        if self.sampling is not None:
            return False
        self.prompt, self.sampling = prompt, sampling
        self.repeatable = sampling.temperature == 0 or sampling.seed is not None
        return True

    @property
    def answered(self) -> bool:
        """True once there are tokens."""
        return bool(self.tokens)


Replay = ReplayText | ReplayGeneration


class AnswerGuard(Protocol):
    """Reads the text of one request's answer before it is handed on."""

    async def run(
        self,
        run: Callable[[Sink], Coroutine[Any, Any, None]],
        sink: Sink,
        sampling: Sampling,
    ) -> None:
        """Run a generation into a sink, once its text is read; OutputFlagged for a refused one."""


@dataclass(slots=True)
class Guarded:
    """A request that guards read: an extension of its record.

    `flags` are the labels that they found in it, each as `guard/label`. `answer` reads the answer
    before the caller gets it.
    """

    flags: tuple[str, ...] = ()
    answer: AnswerGuard | None = None
