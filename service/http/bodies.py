"""Base classes of bodies, and answers that hold many items."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError, to_json

from service.common.error_messages import UNKNOWN_FIELD, as_integer, asks_nothing, quote_name
from service.context import RequestContext
from service.engine.texts import Message
from service.errors import InvalidRequest
from service.settings.limits import LimitSettings
from service.tenants.tenant import TIERS, Tier


class RequestBody(BaseModel):
    """Strict: unknown fields, other types, NaN and infinities are refused.

    Unknown fields without effect, such as null, are dropped. If pydantic's context is a list, other
    unknown fields are dropped too, and their names are appended to the list.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_first_unknown(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse the first unknown field; pydantic would make an error for each of 100,000."""
        if not isinstance(value, dict):
            return value
        if any(isinstance(entry, float) for entry in value.values()):
            value = {name: as_integer(entry) for name, entry in value.items()}
        if value.keys() <= cls.model_fields.keys():
            return value
        for name, entry in value.items():
            if name in cls.model_fields or asks_nothing(name, entry):
                continue
            if info.context is None:
                context = {"name": name, "known": list(cls.model_fields)}
                raise PydanticCustomError(UNKNOWN_FIELD, "unknown field", context)
            info.context.append(quote_name(name))
        return {name: entry for name, entry in value.items() if name in cls.model_fields}


Many: Any = Field(fail_fast=True)
"""For lists in a request: only the first bad item is reported, as each error takes a kilobyte."""


class AnswerBody(BaseModel):
    """A body that the service sends."""

    model_config = ConfigDict(frozen=True)


class EngineBody(RequestBody):
    """A body of a request that waits for an engine."""

    timeout_ms: int | None = Field(None, ge=1, description="Deadline, waiting included.")
    service_tier: str | None = Field(
        None,
        description="`flex` waits for room; `default` is interactive; default the tenant's.",
        json_schema_extra={"enum": [*TIERS, None]},
    )


class ChatMessage(RequestBody):
    """One message of a conversation."""

    role: str = Field(min_length=1, max_length=32, examples=["user"])
    content: str


class PromptBody(RequestBody):
    """A body with exactly one of `prompt` and `messages`."""

    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Many] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        return self

    def conversation(self, limits: LimitSettings) -> list[Message] | None:
        """The messages for the engine, if there are any; InvalidRequest for more than the cap."""
        if self.messages is None:
            return None
        if len(self.messages) > limits.messages:
            raise InvalidRequest.at(
                "messages", f"at most {limits.messages}, got {len(self.messages)}"
            )
        return [Message(message.role, message.content) for message in self.messages]


class TimingBody(AnswerBody):
    """Milliseconds: the wait for a slot, from arrival to the first token, and in all.

    `service_tier` is the tier that served the request.
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
    """The shape of errors, except on paths of APIs that have their own."""

    error: ErrorDetail


async def render_items(items: Iterable[object]) -> list[bytes]:
    """The items in JSON, made and rendered one by one; other tasks may run in between."""
    done = []
    for item in items:
        done.append(to_json(item))
        await asyncio.sleep(0)
    return done


def with_data(empty: BaseModel, items: Iterable[bytes]) -> bytes:
    """The JSON of an answer, with these items in place of its empty `data` list."""
    before, _, after = to_json(empty).partition(b'"data":[]')
    return b"".join((before, b'"data":[', b",".join(items), b"]", after))
