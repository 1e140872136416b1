"""The `decisions` section of adapter.yaml: how closed questions are asked and calibrated."""

from typing import Annotated, Literal

from pydantic import Field

from service.adapters.formats import Strict

MOST_LETTERS = 26
MOST_ORDERS = 8

QuestionType = Literal["predicate", "choice", "score"]
QUESTION_TYPES: tuple[QuestionType, ...] = ("predicate", "choice", "score")

_Share = Annotated[float, Field(ge=0, le=1)]
_Alpha = Annotated[float, Field(gt=0, lt=1)]


class DecisionFigures(Strict):
    """Cross-validated figures of held-out lines: the fit that judges a line did not use it.

    `coverage` is the largest share of the answers, the surest first, of which at most 5 % are
    wrong. `brier` is the sum over the answers of the squared error, averaged over the lines.
    """

    lines: Annotated[int, Field(ge=1)]
    accuracy: _Share
    ece: _Share
    brier: Annotated[float, Field(ge=0, le=2)]
    coverage: _Share


class AskingRecord(Strict):
    """How one type of question is asked, and its calibration.

    `answers`: the possible answers are not shown, only read (`unlisted`); or they are listed after
    the question; or listed under letters, which are read. Whoever lists them averages the
    log-probabilities over so many `orders`, which evens out a preference for the first or the last
    one. Answers with descriptions are always listed, and letters end at 26 answers.

    p = softmax((log p - prior + bias) / temperature). With `prior`, the answers' log-probabilities
    without an input are subtracted, which are read once for each question
    (`classification.calibration.content_free_log_prior`). `bias` is in nats and belongs to the yes
    of a predicate. Answers of a confidence under `refuse_below` are refused where the service is
    told to; then at most a share `alpha` of the questions gets a wrong answer
    (`evaluation.calibration.fit.risk_threshold`).
    """

    answers: Literal["unlisted", "listed", "letters"] = "unlisted"
    orders: Annotated[int, Field(ge=1, le=MOST_ORDERS)] = 2
    prior: bool = False
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    bias: float = 0.0
    alpha: _Alpha | None = None
    refuse_below: _Share | None = None
    figures: DecisionFigures | None = None


class DecisionsRecord(Strict):
    """How a model is asked each type of question; `llm-service calibrate-decisions` writes it."""

    predicate: AskingRecord = AskingRecord()
    choice: AskingRecord = AskingRecord(prior=True)
    score: AskingRecord = AskingRecord(prior=True)

    def of(self, kind: QuestionType) -> AskingRecord:
        """The record of this type of question."""
        found: AskingRecord = getattr(self, kind)
        return found
