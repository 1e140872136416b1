"""Guards of a request: what they found, and the one that reads its answer."""

from dataclasses import dataclass
from typing import Protocol


class AnswerGuard(Protocol):
    """Reads the text of one request's answer, in the order of each sequence."""

    async def read(self, text: str, *, structured: bool) -> str:
        """Return the text to send in place of this one.

        No word of a `structured` answer may change. Raises OutputFlagged for a text that may not be
        sent, and the error of a guard that could not read it.
        """

    def held(self, seconds: float) -> None:
        """Record how long a text was held, from its arrival to its verdict, in seconds."""


@dataclass(slots=True)
class Guarded:
    """A request that guards read: an extension of its record.

    `flags` are the labels that they found in it, each as `guard/label`. `answer` reads the answer
    before the caller gets it.
    """

    flags: tuple[str, ...] = ()
    answer: AnswerGuard | None = None
