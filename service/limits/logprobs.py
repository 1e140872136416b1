"""Caps on log-probabilities, which are built in one go while no other request is served."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.limits.prompts import each_prompt
from service.settings.limits import LimitSettings

_COMPLETION_TOKENS = 16
"""Longest completion if the body sets no maximum, as in OpenAI's API."""


def check_logprobs(body: Mapping[str, Any], context: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for a body that may be answered with too many log-probabilities.

    The body passed `check_body`. vLLM builds a whole answer in one go, about 3 us for each of them;
    a stream's come token by token and are not capped. `context` is the model's, in tokens: the
    longest answer to a chat without a maximum.
    """
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return
    per_token = 1 + (asked if asked is not True else body.get("top_logprobs") or 0)
    prompts = each_prompt(body.get("prompt"))
    choices = body.get("n") or 1
    if body.get("stream") is True:
        return
    tokens = min(_longest(body, context), context)
    check_answer_logprobs(len(prompts) * choices, tokens, per_token, limits)


def check_answer_logprobs(answers: int, tokens: int, per_token: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest if an answer that is not streamed may hold too many log-probabilities.

    A whole answer is built in one go, about 3 us for each of them.
    """
    most = answers * tokens * per_token
    if most > limits.answer_logprobs:
        raise InvalidRequest(
            f"logprobs: at most {limits.answer_logprobs} in an answer that is not streamed, got up "
            f"to {answers} x {tokens} tokens x {per_token} = {most}: ask for a shorter answer, for "
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


def check_prompt_logprobs(total: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for too many log-probabilities of a request's prompts.

    vLLM reads and builds them in one go, up to 9 us for each, streamed or not.
    """
    if total and not limits.echo_logprobs:
        raise InvalidRequest(
            "logprobs: there are none of prompts here (`echo` with `logprobs`, `prompt_logprobs`): "
            "limits.echo_logprobs is 0",
            param="logprobs",
        )
    if total > limits.echo_logprobs:
        raise InvalidRequest(
            f"logprobs: at most {limits.echo_logprobs} for the prompts of a request, got {total}: "
            "send shorter or fewer prompts, or ask for fewer alternatives",
            param="logprobs",
        )
