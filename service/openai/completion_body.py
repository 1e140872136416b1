"""The bodies of completions."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from service.errors import InvalidRequest
from service.openai.body import Many
from service.openai.sampling import GenerationBody, TokenId, check_count
from service.settings.limits import LimitSettings

_LONGEST = 16
"""Tokens of the longest completion if the body sets no maximum, as in OpenAI's API."""

TokenIds = Annotated[list[TokenId], Many]
Prompt = str | TokenIds | Annotated[list[str], Many] | Annotated[list[TokenIds], Many]


class CompletionBody(GenerationBody):
    """The body of a completion: prompts to be continued."""

    prompt: Prompt = Field(
        description="A text, or the ids of its tokens; or a list of such prompts.",
        examples=["Once upon a time"],
    )
    echo: bool | None = Field(None, description="Begin the answer with the prompt.")
    logprobs: int | None = Field(
        None, description="Tell the log-probabilities of so many likely tokens at each place."
    )
    suffix: str | None = Field(
        None, description="What comes after the answer, for models that fill in the middle."
    )
    add_special_tokens: bool = Field(True, description="Begin the prompt as the model's prompts.")

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or the ids of its tokens."""
        first = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        several = first is not self.prompt and not isinstance(first, int)
        return self.prompt if several else [self.prompt]  # type: ignore[return-value, list-item]

    @property
    def prompt_count(self) -> int:
        return len(self.prompts)

    @property
    def longest(self) -> int | None:
        if self.max_tokens is None:
            return _LONGEST
        return 1 if self.only_echoes else self.max_tokens

    @property
    def only_echoes(self) -> bool:
        """True for a request of the prompt alone: the engine makes a token that is not told."""
        return bool(self.echo) and self.max_tokens == 0

    @property
    def likely(self) -> int | None:
        return self.logprobs

    @property
    def likely_of_prompt(self) -> int | None:
        echoed = self.logprobs if self.echo else None
        return echoed if self.prompt_logprobs is None else self.prompt_logprobs

    def settle(self, limits: LimitSettings, context: int) -> None:
        if not self.prompt:
            raise InvalidRequest("prompt: must not be empty", param="prompt")
        if (count := self.prompt_count) > limits.prompts:
            message = f"prompt: at most {limits.prompts} prompts, got {count}"
            raise InvalidRequest(message, param="prompt")
        check_count(self.logprobs, 0, limits.logprobs, "logprobs")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("max_tokens: must be at least 1, got 0", param="max_tokens")
        if self.suffix is not None and self.echo:
            raise InvalidRequest("suffix: not beside echo", param="suffix")
        if self.suffix is not None and self.truncate_prompt_tokens is not None:
            raise InvalidRequest("suffix: not beside truncate_prompt_tokens", param="suffix")
        super().settle(limits, context)
