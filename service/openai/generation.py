"""Fields that chat completions and completions have beside those of sampling."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.engine.protocol import Sampling, Structure
from service.engine.text_size import size_of
from service.errors import InvalidRequest
from service.limits.logprobs import check_answer_logprobs
from service.limits.structure import check_schema
from service.openai.body import STRICT, Many
from service.openai.fields import OPENAI
from service.openai.sampling import SampledBody, Text, TokenId, check_count, check_entries
from service.openai.shape import Only
from service.settings.limits import LimitSettings

_ENTRIES = ("bad_words", "allowed_token_ids")


@with_config(STRICT)
class StreamOptions(TypedDict, total=False):
    """What a stream tells beside the answer."""

    include_usage: Annotated[bool, Field(description="Tell the tokens, in a last event.")]
    continuous_usage_stats: Annotated[bool, Field(description="Tell the tokens in every event.")]


@with_config(STRICT)
class PlainTextFormat(TypedDict):
    """No constraint."""

    type: Literal["text"]


@with_config(STRICT)
class JsonObjectFormat(TypedDict):
    """The answer is a JSON object, which a schema may describe, under one of its two names."""

    type: Literal["json_object"]
    schema: NotRequired[dict[str, Any]]
    value: NotRequired[dict[str, Any]]


@with_config(STRICT)
class NamedSchema(TypedDict):
    """A JSON schema and its name."""

    name: str
    description: NotRequired[str]
    schema: dict[str, Any]
    strict: NotRequired[bool]


@with_config(STRICT)
class NamedSchemaFormat(TypedDict):
    """The answer is JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    PlainTextFormat | JsonObjectFormat | NamedSchemaFormat,
    Field(discriminator="type"),
    Only("other constraints are in structured_outputs"),
]


class GenerationBody(SampledBody):
    """The body of a chat completion or of a completion."""

    rules = OPENAI

    max_tokens: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None, description="The longest answer, in tokens."
    )
    min_tokens: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        0, description="The shortest answer, in tokens."
    )
    n: int = Field(1, json_schema_extra={"minimum": 1}, description="Answers to the same prompt.")
    bad_words: Annotated[list[Text], Many] | None = Field(
        None, description="Texts that the answer must not hold."
    )
    allowed_token_ids: Annotated[list[TokenId], Many] | None = Field(
        None, min_length=1, description="The only tokens that the answer may hold."
    )
    spaces_between_special_tokens: bool = Field(
        True, description="Write spaces between special tokens that are not left out."
    )
    response_format: ResponseFormat | None = Field(
        None, description="A constraint on the answer: JSON, or JSON that a schema describes."
    )
    stream_options: StreamOptions | None = Field(
        None, description="What a stream tells beside the answer."
    )
    prompt_logprobs: int | None = Field(
        None, description="Tell the log-probabilities of so many likely tokens of the prompt."
    )
    return_token_ids: bool | None = Field(
        None, description="Tell the token ids of the prompt and of the answer."
    )
    return_tokens_as_token_ids: bool | None = Field(
        None, description="Write tokens of log-probabilities as `token_id:17`."
    )
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = Field(
        None, description="Cut the prompt to so many tokens; -1 is what the context holds."
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="Where a prompt is cut."
    )

    @property
    def longest(self) -> int | None:
        """The longest answer that is asked for, in tokens; None for as many as fit."""
        return self.max_tokens

    @property
    def likely(self) -> int | None:
        """Of each token of an answer, the number of likely ones that are told; None for none."""
        return None

    @property
    def likely_of_prompt(self) -> int | None:
        """The same for each token of the prompt."""
        return self.prompt_logprobs

    @property
    def prompt_count(self) -> int:
        """The number of prompts."""
        return 1

    @property
    def structure(self) -> Structure | None:
        asked = self.response_format
        if asked is None or asked["type"] == "text":
            return super().structure
        if asked["type"] == "json_schema":
            return Structure(json_schema=asked["json_schema"]["schema"])
        schema = asked.get("schema", asked.get("value"))
        return Structure(json_schema=schema, json_object=schema is None)

    def settle(self, limits: LimitSettings, context: int) -> None:
        super().settle(limits, context)
        check_count(self.n, 1, limits.n, "n")
        check_count(self.prompt_logprobs, 0, limits.logprobs, "prompt_logprobs")
        check_entries(self, limits, *_ENTRIES)
        self._check_bad_words(limits)
        self._check_response_format(limits)
        if self.max_tokens is not None:
            self.max_tokens = min(self.max_tokens, context)
        longest = self.longest
        if longest is not None and self.min_tokens > max(longest, 1):
            raise InvalidRequest(
                f"min_tokens: at most {longest}, the longest answer, got {self.min_tokens}",
                param="min_tokens",
            )
        if self.stream:
            if self.prompt_logprobs:
                raise InvalidRequest(
                    f"prompt_logprobs: must be 0 beside stream, got {self.prompt_logprobs}",
                    param="prompt_logprobs",
                )
            return
        if self.stream_options:
            raise InvalidRequest("stream_options: only beside stream", param="stream_options")
        if self.likely is not None:
            tokens = context if longest is None else min(longest, context)
            answers = self.prompt_count * self.n
            check_answer_logprobs(answers, tokens, 1 + self.likely, limits)

    def sampling(self, defaults: Mapping[str, Any]) -> Sampling:
        """The parameters of sampling; what is not set has the model's `defaults`.

        Raises InvalidRequest for several answers that would all be the same.
        """
        longest = self.longest
        sampling = self.sampled(
            defaults,
            max_tokens=defaults.get("max_tokens") if longest is None else longest,
            n=self.n,
            min_tokens=self.min_tokens,
            bad_words=tuple(dict.fromkeys(self.bad_words or ())),
            allowed_token_ids=None
            if self.allowed_token_ids is None
            else tuple(self.allowed_token_ids),
            spaces_between_special_tokens=self.spaces_between_special_tokens,
            logprobs=self.likely,
            prompt_logprobs=self.likely_of_prompt,
        )
        if sampling.n > 1 and sampling.temperature == 0:
            message = f"n: must be 1 where temperature is 0, got {sampling.n}"
            raise InvalidRequest(message, param="n")
        return sampling

    def _check_bad_words(self, limits: LimitSettings) -> None:
        """Raise for words of so many tokens that the engine's worker has no room for them."""
        if self.bad_words is None:
            return
        size = sum(map(size_of, self.bad_words))
        if size > limits.bad_words_bytes:
            raise InvalidRequest(
                f"bad_words: at most {limits.bad_words_bytes} bytes together, got {size}",
                param="bad_words",
            )

    def _check_response_format(self, limits: LimitSettings) -> None:
        asked = self.response_format
        if asked is None or asked["type"] == "text":
            return
        if self.structured_outputs is not None:
            raise InvalidRequest(
                "response_format: not beside structured_outputs", param="response_format"
            )
        if asked["type"] == "json_schema":
            schema = asked["json_schema"]["schema"]
            check_schema(schema, limits, "response_format.json_schema.schema")
            return
        if "schema" in asked and "value" in asked:
            raise InvalidRequest(
                "response_format: must hold one of schema and value, got both",
                param="response_format",
            )
        for key in ("schema", "value"):  # llama.cpp's name, and huggingface_hub's
            if key in asked:
                check_schema(asked[key], limits, f"response_format.{key}")
