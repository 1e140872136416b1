"""The `confidence` section of adapter.yaml: a map from measures of an answer to P(it is right)."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from service.adapters.formats import Strict

Measure = Literal[
    "sequence_logprob", "mean_token_logprob", "min_token_probability", "mean_entropy", "agreement"
]
"""Names of `generation.confidence.Confidence` and of the API's answer."""

Match = Literal["exact", "json", "tool_calls", "token", "words"]
"""Comparisons of an answer with one right answer, see `adapters.golden_score`."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


class SelectiveAccuracy(Strict):
    """Accuracy of the most confident answers, at three shares of all answers."""

    at_50: _Share
    at_80: _Share
    at_100: _Share


class ReliabilityBin(Strict):
    """Lines of similar probability: their mean probability, share of right answers, and number."""

    confidence: _Share
    accuracy: _Share
    count: _Count


class ConfidenceFigures(Strict):
    """Cross-validated figures: the map that judges a line was fitted without that line.

    `base_risk` is the share of wrong answers; `cut` lines had no complete answer and are left out.
    Fields with `mean_logprob` rank answers by their mean log-probability alone; only
    `log_loss_mean_logprob` needs a map fitted to it. `risk` is the share of errors among the most
    confident 10 %, 20 %, ... 100 % of the answers.
    """

    lines: _Count
    cut: Annotated[int, Field(ge=0)]
    base_risk: _Share
    auroc: _Share
    auroc_mean_logprob: _Share
    log_loss: Annotated[float, Field(ge=0)]
    log_loss_mean_logprob: Annotated[float, Field(ge=0)]
    ece: _Share
    ece_mean_logprob: _Share | None = None
    aurc: _Share
    aurc_mean_logprob: _Share | None = None
    accuracy: SelectiveAccuracy
    accuracy_mean_logprob: SelectiveAccuracy | None = None
    risk: Annotated[tuple[_Share, ...], Field(max_length=10)] = ()
    reliability: tuple[ReliabilityBin, ...] = ()


class RiskControl(Strict):
    """The lowest `min_confidence` at which at most `alpha` of all requests get a wrong answer.

    `threshold` is this value; None if the lines cannot show it for any value. `least_abstention` is
    the share of answers that even a perfect rule has to withhold so that at most `alpha` of the
    remaining ones are wrong.
    """

    alpha: Annotated[float, Field(gt=0, lt=1)]
    threshold: _Share | None = None
    least_abstention: _Share


class FittedMap(Strict):
    """P(right) = 1 / (1 + exp(-(intercept + the sum of weight times measure)))."""

    intercept: float
    weights: Annotated[Mapping[Measure, float], Field(min_length=1)]
    risk_control: RiskControl
    figures: ConfidenceFigures

    def p_correct(self, measures: Mapping[str, float]) -> float:
        """The probability, in 0..1, that an answer with these measures is right."""
        score = self.intercept + sum(
            weight * measures[name] for name, weight in self.weights.items()
        )
        # Of the negative magnitude alone: the exponential of a large score would overflow.
        small = math.exp(-abs(score))
        return 1 / (1 + small) if score >= 0 else small / (1 + small)


class Siblings(Strict):
    """Answers that are sampled beside a greedy one, to the same prompt.

    Their seeds are 0, 1, 2, ...: a request's siblings are the same each time.
    """

    samples: Annotated[int, Field(ge=2, le=16)]
    temperature: Annotated[float, Field(gt=0, le=2)]


class AgreementMap(FittedMap):
    """A map that also uses `agreement`: the share of sampled answers that match the greedy one."""

    siblings: Siblings


class ConfidenceMap(FittedMap):
    """A map of the measures of the answer alone, and one for requests that ask for agreement.

    Both apply only to complete greedy answers. `match` is the rule by which two answers count as
    equal.
    """

    match: Match
    agreement: AgreementMap | None = None

    @field_validator("weights")
    @classmethod
    def _needs_one_answer(cls, weights: Mapping[Measure, float]) -> Mapping[Measure, float]:
        if "agreement" in weights:
            raise ValueError("agreement has its place in agreement.weights")
        return weights
