"""Fields for sampling, structured output and answers that several APIs have."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.common.error_messages import quote
from service.engine.contract import Sampling, Structure
from service.engine.texts import size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.caps import check_answer_logprobs
from service.limits.regex import check_regex
from service.limits.structure import check_choice, check_schema
from service.openai.body import OPENAI, STRICT, Body, Int64, Many, Only
from service.settings.limits import LimitSettings

LEAST_PENALTY = 0.01
"""The smallest repetition penalty with which every logit stays finite."""

Text = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, le=2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

_PLAIN = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "ignore_eos", "skip_special_tokens"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "include_stop_str_in_output"),
)
"""Fields that are parameters of sampling as they are."""

_ENTRIES = ("stop", "stop_token_ids", "logit_bias")
_LARGEST_BIAS = 100.0


@with_config(STRICT)
class StructuredOutputs(TypedDict, total=False):
    """A constraint on the answer: exactly one of these."""

    json: dict[str, Any]
    regex: str
    choice: Annotated[list[str], Many]
    json_object: Literal[True]


class SampledBody(Body):
    """A body with the sampling parameters of all APIs except Anthropic's."""

    stream: bool | None = Field(None, description="Send the answer as server-sent events.")
    user: str | None = Field(None, description="A name for the user; without effect.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, examples=[0.7])
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample from the most likely tokens that have this probability together."""
    top_k: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = None
    """Sample from so many of the most likely tokens; 0 and -1 are off."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Leave out tokens below this share of the most likely one's probability."""
    presence_penalty: Penalty | None = Field(None, description="Against tokens already used.")
    frequency_penalty: Penalty | None = Field(None, description="Against tokens used often.")
    # Logits are float32, whose range penalties of 1e308 and 1e-300 leave. Beside a grammar the
    # engine then took a token that the grammar does not allow, and ended the request.
    repetition_penalty: Annotated[float, Field(ge=LEAST_PENALTY, le=100)] | None = None
    """Values above 1 make tokens that are in the prompt or the answer less likely."""
    logit_bias: dict[str, Any] | None = Field(
        None,
        description="Numbers in -100..100 that are added to the logits of tokens, by token id.",
        json_schema_extra={"additionalProperties": {"type": "number"}},
    )
    seed: Int64 | None = Field(None, description="The same seed samples the same answer.")
    stop: Text | Annotated[list[Text], Many] | None = None
    """Texts that end the answer, which leaves them out."""
    stop_token_ids: Annotated[list[TokenId], Many] | None = None
    """Tokens that end the answer."""
    ignore_eos: bool = Field(False, description="Go on after the model's end of a text.")
    skip_special_tokens: bool = Field(True, description="Leave special tokens out of the answer.")
    include_stop_str_in_output: bool = Field(False, description="Keep the text that ended it.")
    structured_outputs: StructuredOutputs | None = None
    """A constraint on the answer: a JSON schema, a regular expression, ..."""

    def settle(self, limits: LimitSettings, context: int) -> None:
        check_entries(self, limits, *_ENTRIES)
        for stop in self.stops:
            if (size := size_of(stop)) > limits.stop_bytes:
                message = f"stop: at most {limits.stop_bytes} bytes, got {size}"
                raise InvalidRequest(message, param="stop")
        if self.logit_bias is not None:
            _biases(self.logit_bias)
        if self.structured_outputs is not None:
            _check_structure(self.structured_outputs, limits)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of `stop`."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def structure(self) -> Structure | None:
        """The constraint on the answer, if there is one."""
        asked = self.structured_outputs
        if asked is None:
            return None
        choice = asked.get("choice")
        return Structure(
            json_schema=asked.get("json"),
            regex=asked.get("regex"),
            choice=None if choice is None else tuple(choice),
            json_object="json_object" in asked,
        )

    def sampled(self, defaults: Mapping[str, Any], **own: Any) -> Sampling:
        """The sampling parameters; `own` are those of one API alone.

        The model's `defaults` apply to parameters that are not set.
        """
        asked = {name: getattr(self, name) for name in _PLAIN}
        chosen = {name: value for name, value in asked.items() if value is not None}
        token_ids = (*(self.stop_token_ids or ()), *(defaults.get("stop_token_ids") or ()))
        chosen["stop_token_ids"] = tuple(dict.fromkeys(token_ids))
        return Sampling(
            **{**defaults, **chosen, **own},
            stop=self.stops,
            logit_bias=None if self.logit_bias is None else _biases(self.logit_bias),
            structure=self.structure,
        )


def check_entries(body: Body, limits: LimitSettings, *names: str) -> None:
    """Raise InvalidRequest for a list or an object of more entries than the cap of its name."""
    for name in names:
        value, limit = getattr(body, name), getattr(limits, name)
        if isinstance(value, list | dict) and len(value) > limit:
            raise InvalidRequest(f"{name}: at most {limit} entries, got {len(value)}", param=name)


def check_count(value: int | None, least: int, limit: int, name: str) -> None:
    """Raise InvalidRequest for a number outside of `least`..`limit`."""
    if value is not None and not least <= value <= limit:
        raise InvalidRequest(f"{name}: must be {least}..{limit}, got {quote(value)}", param=name)


def _check_structure(asked: StructuredOutputs, limits: LimitSettings) -> None:
    if len(asked) != 1:
        known = ", ".join(StructuredOutputs.__annotations__)
        raise UnsupportedFeature(
            f"structured_outputs: must hold one of {known}, got {quote(asked)}",
            param="structured_outputs",
        )
    if "json" in asked:
        check_schema(asked["json"], limits, "structured_outputs.json")
    if "regex" in asked:
        check_regex(asked["regex"], limits, "structured_outputs.regex")
    if "choice" in asked:
        check_choice(asked["choice"], limits, "structured_outputs.choice")


def _biases(given: Mapping[str, Any]) -> dict[int, float]:
    """Biases by token; more than 100 is 100."""
    found = {}
    for token, bias in given.items():
        if not token.isdecimal() or not token.isascii() or len(token) > 18:
            message = f"logit_bias: must hold token ids, got {quote(token)}"
            raise InvalidRequest(message, param="logit_bias")
        if type(bias) not in (int, float):
            name = f"logit_bias.{token}"
            raise InvalidRequest(f"{name}: must be a number, got {quote(bias)}", param=name)
        found[int(token)] = float(min(_LARGEST_BIAS, max(-_LARGEST_BIAS, bias)))
    return found


_LISTS = ("bad_words", "allowed_token_ids")


@with_config(STRICT)
class StreamOptions(TypedDict, total=False):
    """What a stream contains beside the answer."""

    include_usage: Annotated[bool, Field(description="Tell the tokens, in a last event.")]
    continuous_usage_stats: Annotated[bool, Field(description="Tell the tokens in every event.")]


@with_config(STRICT)
class PlainTextFormat(TypedDict):
    """No constraint."""

    type: Literal["text"]


@with_config(STRICT)
class JsonObjectFormat(TypedDict):
    """The answer is a JSON object; an optional schema may come under either of its two names."""

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

    max_tokens: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """The longest answer, in tokens."""
    min_tokens: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """The shortest answer, in tokens."""
    n: int = Field(1, json_schema_extra={"minimum": 1}, description="Answers to the same prompt.")
    bad_words: Annotated[list[Text], Many] | None = None
    """Texts that the answer must not hold."""
    allowed_token_ids: Annotated[list[TokenId], Many] | None = Field(None, min_length=1)
    """The only tokens that the answer may hold."""
    spaces_between_special_tokens: bool = True
    """Write spaces between special tokens that are not left out."""
    response_format: ResponseFormat | None = None
    """A constraint on the answer: JSON, or JSON that a schema describes."""
    stream_options: StreamOptions | None = None
    """What a stream contains beside the answer."""
    prompt_logprobs: int | None = None
    """Tell the log-probabilities of so many likely tokens of the prompt."""
    return_token_ids: bool | None = None
    """Tell the token ids of the prompt and of the answer."""
    return_tokens_as_token_ids: bool | None = None
    """Write tokens of log-probabilities as `token_id:17`."""
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = None
    """Cut the prompt to so many tokens; -1 is what the context holds."""
    truncation_side: Literal["left", "right"] | None = None
    """Where a prompt is cut."""

    @property
    def longest(self) -> int | None:
        """The requested maximum length of the answer in tokens; None for as many as fit."""
        return self.max_tokens

    @property
    def likely(self) -> int | None:
        """The number of likely tokens to report at each place of an answer; None for none."""
        return None

    @property
    def likely_of_prompt(self) -> int | None:
        """The number of likely tokens to report at each place of the prompt; None for none."""
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
        check_entries(self, limits, *_LISTS)
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
        """The sampling parameters; the model's `defaults` apply to those that are not set.

        Raises InvalidRequest if several answers are asked for that would all be the same.
        """
        longest = self.longest
        sampling = self.sampled(
            defaults,
            max_tokens=defaults.get("max_tokens") if longest is None else longest,
            n=self.n,
            min_tokens=self.min_tokens,
            bad_words=tuple(dict.fromkeys(self.bad_words or ())),
            allowed_token_ids=self.allowed_token_ids and tuple(self.allowed_token_ids),
            spaces_between_special_tokens=self.spaces_between_special_tokens,
            logprobs=self.likely,
            prompt_logprobs=self.likely_of_prompt,
        )
        if sampling.n > 1 and sampling.temperature == 0:
            message = f"n: must be 1 where temperature is 0, got {sampling.n}"
            raise InvalidRequest(message, param="n")
        return sampling

    def _check_bad_words(self, limits: LimitSettings) -> None:
        """Raise for words over the cap in bytes: the engine's buffer for their tokens is fixed."""
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
