"""Caps on the log-probabilities that are built in one stretch, in which nobody else is served."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.limits.prompts import each_prompt
from service.settings.tree import LimitSettings

_COMPLETION_TOKENS = 16
"""The longest completion where its body names none, as in OpenAI's API."""


def check_logprobs(body: Mapping[str, Any], context: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for a body that passed `check_body` and may be answered with too many.

    vLLM builds a whole answer in one stretch, some three microseconds for each of them; a stream's
    come token by token and are not capped. Those of an echoed prompt it reads in one stretch and
    builds in another, some twelve microseconds for each, streamed or not. `context` is the model's,
    in tokens: the longest answer to a chat that names none, and the longest prompt.
    """
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return
    per_token = 1 + (asked if asked is not True else body.get("top_logprobs") or 0)
    prompts = each_prompt(body.get("prompt"))
    choices = body.get("n") or 1
    if body.get("echo"):
        # No token is shorter than a byte; one may begin every prompt.
        echoed = choices * sum(min(_size(prompt) + 1, context) for prompt in prompts)
        if echoed * per_token > limits.echo_logprobs:
            raise InvalidRequest(
                f"logprobs: echoed prompts may hold {limits.echo_logprobs} log-probabilities, and "
                f"up to {echoed} tokens x {per_token} are {echoed * per_token}: send shorter or "
                "fewer prompts, or ask for fewer alternatives",
                param="logprobs",
            )
    if body.get("stream") is True:
        return
    answers, tokens = len(prompts) * choices, min(_longest(body, context), context)
    most = answers * tokens * per_token
    if most > limits.answer_logprobs:
        raise InvalidRequest(
            f"logprobs: a whole answer may hold {limits.answer_logprobs} log-probabilities, and "
            f"{answers} x {tokens} tokens x {per_token} are {most}: ask for a shorter answer, for "
            "fewer alternatives, or for a stream",
            param="logprobs",
        )


def _longest(body: Mapping[str, Any], context: int) -> int:
    """The tokens of the longest answer that a body asks for."""
    is_chat = body["logprobs"] is True
    longest = body.get("max_completion_tokens") if is_chat else None
    longest = body.get("max_tokens") if longest is None else longest
    if longest is None:
        return context if is_chat else _COMPLETION_TOKENS
    return int(longest)


def _size(prompt: Any) -> int:
    """Bytes of a text, or token ids."""
    if isinstance(prompt, str):
        return len(prompt.encode(errors="surrogatepass"))
    return len(prompt) if isinstance(prompt, list) else 0
