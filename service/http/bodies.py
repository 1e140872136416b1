"""Base classes of all bodies."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.common.error_messages import UNKNOWN_FIELD
from service.context import RequestContext
from service.engine.texts import Message
from service.errors import InvalidRequest
from service.settings.limits import LimitSettings
from service.tenants.tenant import Tier


class RequestBody(BaseModel):
    """Strict: unknown fields, other types, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_first_unknown(cls, value: Any) -> Any:
        """Refuse the first unknown field; pydantic would make an error for each of 100,000."""
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    context = {"name": name, "known": list(cls.model_fields)}
                    raise PydanticCustomError(UNKNOWN_FIELD, "unknown field", context)
        return value


Many: Any = Field(fail_fast=True)
"""For lists in a request: only the first bad item is reported, as each error takes a kilobyte."""


class AnswerBody(BaseModel):
    """A body that the service sends."""

    model_config = ConfigDict(frozen=True)


class Listed(AnswerBody):
    """Something in a list, by its id."""

    id: str


Item = TypeVar("Item", bound=Listed)


class PageBody(AnswerBody, Generic[Item]):
    """A page of a list, as OpenAI's: `last_id` is what `after` of the next page takes."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


ServiceTier = Annotated[
    str | None,
    Field(
        description="`flex` waits for room; `default` is interactive; default the tenant's.",
        json_schema_extra={"enum": [*Tier, "auto", None]},
    ),
]


class ChatMessage(RequestBody):
    """One message of a conversation."""

    role: str = Field(min_length=1, max_length=32, examples=["user"])
    content: str


def conversation(messages: Sequence[ChatMessage], limits: LimitSettings) -> list[Message]:
    """The messages for the engine; InvalidRequest for more than the cap."""
    if len(messages) > limits.messages:
        raise InvalidRequest(
            f"messages: at most {limits.messages}, got {len(messages)}", param="messages"
        )
    return [Message(message.role, message.content) for message in messages]


class TimingBody(AnswerBody):
    """Milliseconds: waiting for a permit, from arrival to the first token, and in all.

    `service_tier` is the class of work that the request was.
    """

    service_tier: Tier
    queue_ms: float
    ttft_ms: float | None
    total_ms: float

    @classmethod
    def of(cls, context: RequestContext) -> Self:
        """The request's times so far."""
        first = context.times.first_token
        return cls(
            service_tier=context.tier,
            queue_ms=round(context.times.queue * 1000, 3),
            ttft_ms=None if first is None else round(first * 1000, 3),
            total_ms=round(context.elapsed() * 1000, 3),
        )


class ErrorDetail(AnswerBody):
    """Error of a request; `param` names the field at fault."""

    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorBody(AnswerBody):
    """The shape of every error, but on paths that have a form of their own."""

    error: ErrorDetail
