"""Bodies of POST /v1/tokenize and /v1/detokenize."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from service.http.bodies import AnswerBody, ChatMessage, Many, RequestBody


class TokenizeRequest(RequestBody):
    """Text to tokenise; exactly one of `prompt` and `messages` is set."""

    model: str | None = Field(None, description="Default: the base model.")
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Many] | None = Field(None, min_length=1)
    add_special_tokens: bool = Field(
        True, description="Begin a prompt as generation does; a conversation's template decides."
    )
    add_generation_prompt: Literal[True] = True
    return_token_strs: Literal[False] | None = False

    @model_validator(mode="after")
    def _one_prompt(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        return self


class TokenizeAnswer(AnswerBody):
    """The token ids that the model would read."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(RequestBody):
    """Token ids to turn into text."""

    model: str | None = Field(None, description="Default: the base model.")
    tokens: Annotated[list[int], Many] = Field(max_length=1 << 17)


class DetokenizeAnswer(AnswerBody):
    """The text, special tokens included."""

    text: str


class VllmDetokenizeAnswer(AnswerBody):
    """The text as vLLM's server names it."""

    prompt: str
