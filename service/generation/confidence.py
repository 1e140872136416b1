"""Confidence of the model in an answer, from the log-probabilities of its tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.engine.contract import Part

TOP_LOGPROBS = 5
"""Number of most likely tokens at each place from which confidence is computed."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Measures over the generated tokens of one sequence.

    `sequence_logprob` is log P(answer | prompt) in nats, `mean_token_logprob` the same per token,
    `min_token_probability` the least certain token's probability, and `mean_entropy` the mean over
    places of the entropy, in nats, of the returned top log-probabilities normalised to one.
    `agreement` is the share of sampled answers that are the same, None where none were sampled.
    """

    sequence_logprob: float
    mean_token_logprob: float
    min_token_probability: float
    mean_entropy: float
    agreement: float | None = None


@dataclass(slots=True)
class ConfidenceMeter:
    """Collects one sequence's tokens as they come."""

    _tokens: int = 0
    _total: float = 0.0
    _least: float = 0.0
    _entropy: float = field(default=0.0)

    def add(self, part: Part) -> None:
        """Take the next tokens of the sequence."""
        for token_id, place in zip(part.token_ids, part.logprobs or (), strict=False):
            if place is None:
                continue
            logprob = place[token_id].logprob
            self._tokens += 1
            self._total += logprob
            self._least = min(self._least, logprob)
            self._entropy += entropy([each.logprob for each in place.values()])

    def result(self) -> Confidence | None:
        """The measures; None while there is no token."""
        if not self._tokens:
            return None
        return Confidence(
            sequence_logprob=self._total,
            mean_token_logprob=self._total / self._tokens,
            min_token_probability=math.exp(self._least),
            mean_entropy=self._entropy / self._tokens,
        )


def entropy(logprobs: Sequence[float]) -> float:
    """Shannon entropy, in nats, of log-probabilities normalised to sum to one."""
    greatest = max(logprobs)
    weights = [math.exp(logprob - greatest) for logprob in logprobs]
    total = sum(weights)
    return -sum(w / total * math.log(w / total) for w in weights if w > 0)
