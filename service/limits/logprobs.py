"""A cap on the log-probabilities of one whole answer."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.limits.prompts import count_prompts
from service.settings import LimitSettings

_COMPLETION_TOKENS = 16
"""The longest completion where its body names none, as in OpenAI's API."""


def check_logprobs(body: Mapping[str, Any], context: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for a body that passed `check_body` and may be answered with too many.

    vLLM builds the whole answer in one stretch, some four microseconds for each of them, in which
    nobody else is served. A stream builds them token by token, and is not capped. `context` is the
    model's, in tokens: the longest answer to a chat that names none, and what `echo` may add.
    """
    asked = body.get("logprobs")
    if asked is None or asked is False or body.get("stream") is True:
        return
    if asked is True:
        per_token = 1 + (body.get("top_logprobs") or 0)
        longest = body.get("max_completion_tokens")
        longest = body.get("max_tokens") if longest is None else longest
        tokens = context if longest is None else min(longest, context)
    else:
        per_token = 1 + asked
        longest = body.get("max_tokens")
        tokens = _COMPLETION_TOKENS if longest is None else min(longest, context)
        tokens = context if body.get("echo") else tokens
    answers = count_prompts(body.get("prompt")) * (body.get("n") or 1)
    most = answers * tokens * per_token
    if most > limits.answer_logprobs:
        raise InvalidRequest(
            f"logprobs: a whole answer may hold {limits.answer_logprobs} log-probabilities, and "
            f"{answers} x {tokens} tokens x {per_token} are {most}: ask for a shorter answer, for "
            "fewer alternatives, or for a stream",
            param="logprobs",
        )
