"""A cap on the log-probabilities of one whole answer."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.settings import LimitSettings


def check_logprobs(body: Mapping[str, Any], context: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for a body of OpenAI's whose answer may hold too many of them.

    vLLM builds the whole answer in one stretch, some thirteen microseconds for each of them, in
    which nobody else is served. A stream builds them token by token, and is not capped. `context`
    is the model's, in tokens: the longest answer where the body names none, and what `echo` adds.
    """
    per_token = _per_token(body)
    if not per_token or body.get("stream") is True:
        return
    prompt = body.get("prompt")
    prompts = 1
    if isinstance(prompt, list) and not all(isinstance(token, int) for token in prompt):
        prompts = len(prompt)
    answers = prompts * (_count(body.get("n")) or 1)
    tokens = _count(body.get("max_completion_tokens")) or _count(body.get("max_tokens"))
    tokens = context if tokens is None or body.get("echo") else min(tokens, context)
    most = answers * tokens * per_token
    if most > limits.answer_logprobs:
        raise InvalidRequest(
            f"logprobs: a whole answer may hold {limits.answer_logprobs} log-probabilities, and "
            f"{answers} x {tokens} tokens x {per_token} are {most}: ask for a shorter answer, for "
            "fewer alternatives, or for a stream",
            param="logprobs",
        )


def _per_token(body: Mapping[str, Any]) -> int:
    """A chat says `logprobs: true` and how many more, a completion how many more."""
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return 0
    more = _count(body.get("top_logprobs")) if asked is True else _count(asked)
    return 1 + (more or 0)


def _count(value: Any) -> int | None:
    """A count, if it is one; what is none is refused by vLLM's own models."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
