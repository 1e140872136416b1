"""Bodies of POST /v1/feedback."""

from typing import Literal

from pydantic import Field

from service.errors import InvalidRequest
from service.http.bodies import AnswerBody, RequestBody

_KINDS = ("label", "correct", "score")


class FeedbackRequest(RequestBody):
    """Knowledge of an answer: exactly one of `label`, `correct` and `score`."""

    id: str = Field(max_length=4096, description="The answer's `X-Feedback-Id` header.")
    label: str | None = Field(None, description="The true label of the first text.")
    correct: bool | None = Field(None, description="True if the answer was right.")
    score: float | None = Field(
        None, ge=0, le=1, description="How right it was, from 0 (wrong) to 1 (right)."
    )

    def check_one(self) -> None:
        """Raise InvalidRequest unless it says one thing."""
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise InvalidRequest(
                f"{given[-1] if given else 'label'}: give exactly one of {', '.join(_KINDS)}, got "
                f"{found}",
                param=given[-1] if given else "label",
            )


class FeedbackAnswer(AnswerBody):
    """The rating that was counted, and its version.

    `score` is null for the true label of an answer that abstained, which is neither right nor
    wrong.
    """

    object: Literal["feedback"] = "feedback"
    model: str
    version: str
    score: float | None
