"""An input on its way into a prompt: never long enough to hold up the event loop."""

import asyncio
from collections.abc import Callable

from service.engine.protocol import ModelInfo, Prompt
from service.errors import InvalidRequest

_LONG = 16_384
"""Characters whose tokenisation takes longer than a thread's start: some eight milliseconds."""


def check_length(text: str, model: ModelInfo) -> None:
    """Raise InvalidRequest for a text that no tokenisation fits into the model's context."""
    most = model.max_model_len * model.max_token_chars
    if len(text) > most:
        raise InvalidRequest(
            f"input: {len(text)} characters are more than the model's context of "
            f"{model.max_model_len} tokens can hold, at most {most}",
            code="context_length_exceeded",
            param="input",
        )


async def written(text: str, write: Callable[[str], Prompt]) -> Prompt:
    """The prompt that `write` makes of a text; a long one is written in a thread."""
    if len(text) < _LONG:
        return write(text)
    return await asyncio.to_thread(write, text)
