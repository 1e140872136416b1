"""The question of a line of data: a prompt, or a conversation."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from service.adapters.golden import GoldenMessage
from service.adapters.strict import Strict


class Asking(Strict):
    """A prompt, sent as it is, or a conversation, put into the model's chat template.

    The limits are those of golden examples, because any line may become one.
    """

    prompt: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")] | None = None
    messages: Annotated[tuple[GoldenMessage, ...], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs one of prompt and messages")
        return self
