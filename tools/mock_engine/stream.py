"""The tokens of one request, made up."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreRequest,
    FinishReason,
)
from vllm.v1.metrics.stats import PrefillStats
from vllm.v1.outputs import LogprobsLists


class Stream:
    """A request that is answered with a word a step, up to its limit of tokens."""

    __slots__ = ("_beside", "_events", "_left", "_next", "_prompt", "_words", "client", "id")

    def __init__(self, request: EngineCoreRequest, words: Sequence[int], max_len: int) -> None:
        params = request.sampling_params
        self.id: str = request.request_id
        self.client: int = request.client_index
        self._prompt = len(request.prompt_token_ids or ())
        room = max(1, max_len - self._prompt)
        self._left = min(params.max_tokens or room, room)
        self._words = words
        # The same prompt has the same answer, as with greedy sampling.
        self._next = sum(request.prompt_token_ids or ()) % len(words)
        self._beside = _beside(params, words)
        self._events: list[EngineCoreEvent] | None = [
            EngineCoreEvent.new_event(EngineCoreEventType.QUEUED)
        ]

    def step(self) -> EngineCoreOutput:
        """The output of one step: the next token, and after the last one the end."""
        token = self._words[self._next]
        self._next = (self._next + 1) % len(self._words)
        self._left -= 1
        output = EngineCoreOutput(self.id, [token])
        if self._beside is not None:
            output.new_logprobs = _logprobs(token, self._beside)
        if self._events is not None:
            output.events, self._events = self._events, None
            output.prefill_stats = PrefillStats(self._prompt, self._prompt)
        if self._left == 0:
            output.finish_reason = FinishReason.LENGTH
        return output

    @property
    def ended(self) -> bool:
        """True after the last token."""
        return self._left == 0

    def scheduled(self) -> None:
        """Note that the engine begins with this request."""
        if self._events is not None:
            self._events.append(EngineCoreEvent.new_event(EngineCoreEventType.SCHEDULED))


def _beside(params: Any, words: Sequence[int]) -> Sequence[int] | None:
    """The tokens for which log-probabilities are wanted, without the chosen token."""
    if params.logprob_token_ids:
        ids: Sequence[int] = params.logprob_token_ids
        return ids
    if params.logprobs is None:
        return None
    return words[: params.logprobs] if params.logprobs >= 0 else words


def _logprobs(token: int, beside: Sequence[int]) -> LogprobsLists:
    """The log-probabilities of a step, falling from a half; of shape [1, 1 + the tokens beside].

    The first is that of the token that was taken, as vLLM's sampler has it.
    """
    values = [-math.log(2) * (place + 1) for place in range(1 + len(beside))]
    return LogprobsLists(
        np.array([[token, *beside]], dtype=np.int32),
        np.array([values], dtype=np.float32),
        np.ones(1, dtype=np.int32),
    )
