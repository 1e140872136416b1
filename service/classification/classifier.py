"""Zero-shot classification by the base model: labels told apart by their first tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.protocol import MAX_READ_IDS, Engine, Message, Prompt
from service.errors import InvalidRequest
from service.limits.quote import quote

DEFAULT_INSTRUCTION = "Classify the text."


@dataclass(frozen=True, slots=True)
class Classification:
    """One input's probabilities, in the order of the labels; they sum to one."""

    scores: Sequence[float]
    prompt_tokens: int
    cached_tokens: int


class Classifier:
    """A label set and an instruction, ready to score inputs.

    Each input costs one engine read: the probabilities of the labels' first tokens as the next
    one, normalised over the labels. Raises InvalidRequest for labels that share a first token.
    """

    def __init__(self, engine: Engine, labels: Sequence[str], instruction: str | None) -> None:
        self._engine = engine
        self._labels = labels
        self._instruction = instruction or DEFAULT_INSTRUCTION
        self._first_tokens = [self._first_token(label) for label in labels]
        self._refuse_shared_tokens()

    async def classify(self, text: str) -> Classification:
        """Score one input."""
        prompt = await self._engine.render_chat([Message("user", self._question(text))])
        self._check_length(prompt)
        read = await self._engine.label_logprobs(prompt, self._first_tokens, None)
        greatest = max(read.logprobs)
        weights = [math.exp(logprob - greatest) for logprob in read.logprobs]
        total = sum(weights)
        scores = [weight / total for weight in weights]
        return Classification(scores, read.prompt_tokens, read.cached_tokens)

    def _question(self, text: str) -> str:
        labels = ", ".join(self._labels)
        return f"{self._instruction}\nAnswer with one of: {labels}.\n\nText: {text}\n\nAnswer:"

    def _first_token(self, label: str) -> int:
        tokens = self._engine.encode(label)
        if not tokens:
            raise InvalidRequest(
                f"candidate_labels: {quote(label)} has no tokens", param="candidate_labels"
            )
        return tokens[0]

    def _refuse_shared_tokens(self) -> None:
        if len(self._labels) > MAX_READ_IDS:
            raise InvalidRequest(
                f"candidate_labels: at most {MAX_READ_IDS}, got {len(self._labels)}",
                param="candidate_labels",
            )
        seen: dict[int, str] = {}
        for label, token in zip(self._labels, self._first_tokens, strict=True):
            if (other := seen.setdefault(token, label)) != label:
                raise InvalidRequest(
                    f"candidate_labels: {quote(other)} and {quote(label)} begin with the same "
                    "token; labels must differ in their first",
                    code="unsupported",
                    param="candidate_labels",
                )

    def _check_length(self, prompt: Prompt) -> None:
        limit = self._engine.model.max_model_len
        if len(prompt.token_ids) >= limit:
            raise InvalidRequest(
                f"input: {len(prompt.token_ids)} tokens with its instruction; fewer than {limit} "
                "fit the model's context",
                code="context_length_exceeded",
                param="input",
            )
