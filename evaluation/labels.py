"""Probabilities of labels: from /v1/classify, or from completions that echo log-probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.choices import Reading
from evaluation.client import Client, Refused
from service.common.aio import gather
from service.errors import ConfigurationError

_NO_ROUTE = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Question:
    """Labels to choose from, None for a model that has its own, and the text around the input."""

    labels: tuple[str, ...] | None = None
    instruction: str | None = None
    template: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a request to /v1/classify."""
        given = {
            "candidate_labels": self.labels,
            "instruction": self.instruction,
            "template": self.template,
        }
        return {name: value for name, value in given.items() if value is not None}


class LabelReader:
    """Gets label probabilities by /v1/classify, or by completions if there is no such route."""

    def __init__(self, client: Client, model: str, *, classifies: bool = True) -> None:
        self._client = client
        self._model = model
        self._classifies = classifies

    async def read(self, text: str, question: Question) -> Reading:
        """The probabilities of the labels for a text.

        Raises Refused, and ConfigurationError where the service has no /v1/classify and
        completions cannot be asked instead.
        """
        if self._classifies:
            try:
                return await self._classified(text, question)
            except Refused as error:
                if error.status not in _NO_ROUTE or error.code == "model_not_found":
                    raise
                self._classifies = False
        return await self._completed(text, question)

    async def _classified(self, text: str, question: Question) -> Reading:
        body = {"model": self._model, "input": text, **question.fields}
        answer = await self._client.ask("/v1/classify", body)
        try:
            (result,) = answer["data"]
            scores = {str(each["label"]): float(each["score"]) for each in result["scores"]}
            return Reading(scores, bool(result["abstained"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError("/v1/classify: is not this service's answer") from error

    async def _completed(self, text: str, question: Question) -> Reading:
        """Probabilities of labels in proportion to those of their tokens after the template.

        They differ from those of /v1/classify for labels of several tokens: there only labels are
        alternatives at each token, here every continuation is.
        """
        if question.template is None or question.labels is None:
            raise ConfigurationError(
                "the service has no /v1/classify: label probabilities need `labels` and "
                "`template`, with which completions can be asked"
            )
        before, after = question.template.split("{input}")
        prompt = before + text + after
        gap = "" if prompt[-1:].isspace() else " "
        logs = await gather(self._log_prob(prompt, gap + label) for label in question.labels)
        best = max(logs)
        weights = [math.exp(each - best) for each in logs]
        return Reading(
            {label: w / sum(weights) for label, w in zip(question.labels, weights, strict=True)}
        )

    async def _log_prob(self, prompt: str, label: str) -> float:
        """Log P of a label's tokens after the prompt, in nats."""
        body = {
            "model": self._model,
            "prompt": prompt + label,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0,
        }
        try:
            answer = await self._client.ask("/v1/completions", body)
            found, read = answer["choices"][0]["logprobs"], answer["usage"]["prompt_tokens"]
            tokens, logs = found["tokens"][:read], found["token_logprobs"][:read]
        except Refused as error:
            raise ConfigurationError(
                "the service has no /v1/classify, and its completions do not echo "
                f"log-probabilities: {error}"
            ) from error
        except (KeyError, TypeError, IndexError) as error:
            raise ConfigurationError(
                "the service has no /v1/classify, and its completions do not echo log-probabilities"
            ) from error
        return seam_sum(tokens, logs, label)


def seam_sum(tokens: Sequence[str], logs: Sequence[float | None], label: str) -> float:
    """The sum of the log-probabilities of the last tokens that spell the label.

    Raises ConfigurationError for a label whose first token also holds the end of the prompt: the
    sum would then not be the label's probability after the prompt.
    """
    spelled, total = "", 0.0
    for token, log in zip(reversed(tokens), reversed(logs), strict=True):
        if len(spelled) >= len(label) or log is None:
            break
        spelled, total = token + spelled, total + log
    if spelled != label:
        raise ConfigurationError(
            f"label {label.strip()!r:.80}: does not begin at a token of its own, so completions "
            "cannot give its probability; the service has no /v1/classify"
        )
    return total
