"""Role of what reads an answer before its caller does."""

from typing import Protocol


class AnswerGuard(Protocol):
    """Reads the text of one request's answer, in the order of each sequence."""

    async def read(self, text: str, *, structured: bool) -> str:
        """The text that may be sent in the place of this; `structured` if no word may change.

        Raises OutputFlagged for one that may not, and the error of a guard that could not read.
        """

    def held(self, seconds: float) -> None:
        """Text was held so long, from its coming to its verdict."""
