"""An input on its way into a prompt: never long enough to hold up the event loop."""

import asyncio
from collections.abc import Callable

from service.engine.protocol import Engine, Prompt
from service.engine.text_encoder import LONG
from service.errors import InvalidRequest


async def check_length(text: str, engine: Engine) -> None:
    """Raise InvalidRequest for a text that by itself is longer than the model's context.

    By its characters where no tokenisation could fit, else, for a long one, by its tokens: so the
    prompts of many labels are not all written before the first of them is found too long.
    """
    limit = engine.model.max_model_len
    most = limit * engine.model.max_token_chars
    if len(text) > most:
        raise _too_long(f"{len(text)} characters", f"{limit} tokens, which hold at most {most}")
    if len(text) >= LONG:
        tokens = len(await asyncio.to_thread(engine.encode, text))
        if tokens > limit:
            raise _too_long(f"{tokens} tokens", f"{limit}")


async def written(text: str, write: Callable[[str], Prompt]) -> Prompt:
    """The prompt that `write` makes of a text; a long one is written in a thread."""
    if len(text) < LONG:
        return write(text)
    return await asyncio.to_thread(write, text)


def _too_long(size: str, limit: str) -> InvalidRequest:
    return InvalidRequest(
        f"input: {size} are more than the model's context of {limit}",
        code="context_length_exceeded",
        param="input",
    )
