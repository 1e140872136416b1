"""Log-probabilities of the prompt in a stream of several answers to it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from vllm.outputs import RequestOutput


async def with_prompt_logprobs(
    stream: AsyncGenerator[RequestOutput, None],
) -> AsyncGenerator[RequestOutput, None]:
    """The outputs, each with the prompt's log-probabilities, which are the same for all answers.

    vLLM 0.32 gives them with an answer's first output alone. Where the reader is slow it merges
    this output into a later one of another answer and drops its log-probabilities
    (`RequestOutput.add`); the handler that echoes the prompt then fails.
    """
    known = None
    async with aclosing(stream):
        async for output in stream:
            known = output.prompt_logprobs or known
            output.prompt_logprobs = known
            yield output
