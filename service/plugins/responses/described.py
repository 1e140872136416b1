"""Models of the Responses API's answers, for the OpenAPI description only."""

from typing import Literal

from pydantic import Field

from service.openai.answers import Described, SampledToken
from service.tenants.tenant import Tier


class ResponseText(Described):
    """A part of the model's output, and its tokens' log-probabilities if asked for."""

    type: Literal["output_text", "reasoning_text"]
    text: str
    logprobs: list[SampledToken] | None = None


class SaidItem(Described):
    """A message or a thought of the model."""

    type: Literal["message", "reasoning"]
    id: str
    status: str | None = None
    role: Literal["assistant"] | None = None
    content: list[ResponseText] | None = None


class CalledItem(Described):
    """A call that the model makes, with its arguments in JSON as it wrote them."""

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: str | None = None


class ResponseUsage(Described):
    """Tokens of a response."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class ResponseAnswer(Described):
    """The response to a request; it repeats most of the request's fields, and is not stored."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="Seconds since 1970.")
    model: str
    status: Literal["completed", "incomplete", "in_progress"]
    incomplete_details: dict[str, str] | None = None
    output: list[SaidItem | CalledItem]
    usage: ResponseUsage | None = None
    service_tier: Tier
    store: Literal[False]


class InputTokens(Described):
    """The number of tokens that the model would read for a request."""

    object: Literal["response.input_tokens"]
    input_tokens: int
