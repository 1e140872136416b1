"""Bodies of POST /v1/generate."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from service.common.error_messages import quote
from service.context import Tokens
from service.engine.contract import Adapter, Sampling, Structure
from service.engine.texts import size_of
from service.errors import InvalidRequest
from service.generation.text import GenerationRequest
from service.http.bodies import (
    AnswerBody,
    EngineBody,
    Many,
    PromptBody,
    RequestBody,
    TimingBody,
)
from service.limits.regex import check_regex
from service.limits.structure import check_choice, check_schema
from service.openai.sampling import LEAST_PENALTY
from service.settings.limits import LimitSettings

_INT64 = (1 << 63) - 1


class TextFormat(RequestBody):
    """No constraint."""

    type: Literal["text"]


class JsonSchemaFormat(RequestBody):
    """The answer is JSON that the schema describes."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any]


class RegexFormat(RequestBody):
    """The answer matches a regular expression."""

    type: Literal["regex"]
    regex: str


class ChoiceFormat(RequestBody):
    """The answer is one of the given strings."""

    type: Literal["choice"]
    choice: Annotated[list[str], Many]


ResponseFormat = Annotated[
    TextFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat, Field(discriminator="type")
]


_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Fields for which a model may have values of its own."""


class GenerateRequest(PromptBody, EngineBody):
    """Request for a text; exactly one of `prompt` and `messages` is set."""

    model: str = Field(description="The base model or an adapter.")
    prompt: str | None = Field(None, min_length=1)
    max_tokens: int | None = Field(
        None, ge=1, le=_INT64, description="Default: what fits, at most 256."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1 << 20, description="0 is off.")
    min_p: float | None = Field(None, ge=0, le=1)
    n: int = Field(1, ge=1, description="Answers to the same prompt.")
    stop: str | Annotated[list[str], Many] | None = None
    seed: int | None = Field(None, ge=-_INT64 - 1, le=_INT64)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=LEAST_PENALTY, le=2)
    response_format: ResponseFormat | None = None
    stream: bool = False
    confidence: bool = Field(False, description="Add measures of how sure the model was.")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Withhold an answer that is right with less probability; needs a confidence "
        "map.",
    )
    agreement: bool = Field(
        False,
        description="Sample further answers, whose share of equal ones goes into `p_correct`.",
    )

    def task(
        self, adapter: Adapter | None, defaults: Mapping[str, Any], limits: LimitSettings
    ) -> GenerationRequest:
        """The request for the generation task; InvalidRequest for a value over its cap.

        `defaults` are the model's sampling, for what the request does not set.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        _check_stop(stop, limits)
        if self.n > limits.n:
            raise InvalidRequest.at("n", f"at most {limits.n}, got {quote(self.n)}")
        asked = {name: getattr(self, name) for name in _SAMPLING}
        sampling = {
            name: defaults[name] if value is None else value
            for name, value in asked.items()
            if value is not None or name in defaults
        }
        if self.n > 1 and sampling.get("temperature") == 0:
            message = f"n: greedy answers (temperature 0) are all the same, got {self.n}"
            raise InvalidRequest(message, param="n")
        return GenerationRequest(
            prompt=self.prompt,
            messages=self.conversation(limits),
            max_tokens=self.max_tokens,
            sampling=Sampling(
                max_tokens=self.max_tokens or 1,
                n=self.n,
                seed=self.seed,
                stop=tuple(stop),
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                structure=_structure(self.response_format, limits),
                **sampling,
            ),
            adapter=adapter,
            confidence=self.confidence or self.agreement or self.min_confidence is not None,
        )


class ConfidenceBody(AnswerBody):
    """Measures over an answer's tokens; log-probabilities and entropy in nats.

    `p_correct` is the calibrated probability that a whole greedy answer is right; null where the
    adapter has no confidence map, and for sampled, constrained or cut answers. `agreement` is the
    share of sampled answers that match this one; null if the request does not ask for it.
    """

    sequence_logprob: float
    mean_token_logprob: float
    min_token_probability: float
    mean_entropy: float
    agreement: float | None = None
    p_correct: float | None = None


class OutputBody(AnswerBody):
    """One answer; if it `abstained` (`min_confidence`), its text is withheld."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "abstained"]
    confidence: ConfidenceBody | None = None


class UsageBody(AnswerBody):
    """Tokens used."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, tokens: Tokens) -> Self:
        """The tokens of a request's answers."""
        prompt, completion, cached = tokens.prompt, tokens.completion, tokens.cached
        return cls(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


class GenerateAnswer(AnswerBody):
    """The whole answer of a request that did not stream."""

    id: str
    model: str
    created: int
    outputs: list[OutputBody]
    usage: UsageBody
    timing: TimingBody


def _structure(wanted: ResponseFormat | None, limits: LimitSettings) -> Structure | None:
    match wanted:
        case JsonSchemaFormat(json_schema=schema):
            check_schema(schema, limits, "response_format.json_schema")
            return Structure(json_schema=schema)
        case RegexFormat(regex=regex):
            check_regex(regex, limits, "response_format.regex")
            return Structure(regex=regex)
        case ChoiceFormat(choice=choice):
            check_choice(choice, limits, "response_format.choice")
            return Structure(choice=choice)
    return None


def _check_stop(stop: list[str], limits: LimitSettings) -> None:
    if len(stop) > limits.stop:
        raise InvalidRequest.at("stop", f"at most {limits.stop} strings, got {len(stop)}")
    for entry in stop:
        size = size_of(entry)
        if not 1 <= size <= limits.stop_bytes:
            raise InvalidRequest.at(
                "stop", f"each must be 1..{limits.stop_bytes} bytes, got {size}"
            )
