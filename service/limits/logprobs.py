"""Caps on log-probabilities, which are built in one go while no other request is served."""

from service.errors import InvalidRequest
from service.settings.limits import LimitSettings


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
