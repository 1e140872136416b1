"""Inputs written into prompts, in the tenant's fair turns and off the event loop."""

from collections.abc import Callable

from service.engine.protocol import Prompt, Tokeniser
from service.engine.text_size import size_of
from service.errors import InvalidRequest

_COUNTED = 4096
"""Size in bytes from which an input's tokens are counted before its prompts are written."""


async def check_length(text: str, engine: Tokeniser) -> None:
    """Raise InvalidRequest for a text that by itself is longer than the model's context.

    A text of more characters than its tokens could hold is refused without tokenising it; the
    tokens of another long text are counted. So the prompts of many labels are not all written
    before the first is found too long.
    """
    limit = engine.model.max_model_len
    most = limit * engine.model.max_token_chars
    if len(text) > most:
        raise _too_long(f"{len(text)} characters", f"{limit} tokens, which hold at most {most}")
    size = size_of(text)
    if size >= _COUNTED:
        tokens = await engine.prepare(size, lambda: len(engine.encode(text)))
        if tokens > limit:
            raise _too_long(f"{tokens} tokens", f"{limit}")


async def written(engine: Tokeniser, text: str, write: Callable[[str], Prompt]) -> Prompt:
    """The prompt that `write` makes of a text."""
    return await engine.prepare_prompt(size_of(text), lambda: write(text))


def _too_long(size: str, limit: str) -> InvalidRequest:
    return InvalidRequest(
        f"input: {size} are more than the model's context of {limit}",
        code="context_length_exceeded",
        param="input",
    )
