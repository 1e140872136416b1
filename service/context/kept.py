"""The question and answer of a request, kept so that another version can be asked the same.

Prompts and answers stay in memory until the other version has answered, and are never shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.engine.protocol import Sampling


@dataclass(slots=True)
class KeptText:
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
class KeptGeneration:
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


Kept = KeptText | KeptGeneration
