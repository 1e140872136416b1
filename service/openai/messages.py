"""The messages of a chat completion: what was said, and the calls of tools."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.errors import InvalidRequest
from service.limits.call_arguments import check_arguments
from service.openai.body import STRICT, Many
from service.openai.shape import Only

_MAX_PARTS = 4096


@with_config(STRICT)
class TextPart(TypedDict):
    """Text of a message."""

    type: Literal["text"]
    text: str


@with_config(STRICT)
class RefusalPart(TypedDict):
    """What a model said as it refused to answer."""

    type: Literal["refusal"]
    refusal: str


MessagePart = Annotated[
    TextPart | RefusalPart,
    Field(discriminator="type"),
    Only("prompts and answers are text"),
]


@with_config(STRICT)
class CalledFunction(TypedDict):
    """A function that was called, with its arguments in JSON."""

    name: str
    arguments: str


@with_config(STRICT)
class MessageCall(TypedDict):
    """A call that an answer made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


@with_config(STRICT)
class ConversationMessage(TypedDict, total=False):
    """One message of a conversation."""

    role: Required[
        Annotated[
            str,
            Field(
                description="system, developer, user, assistant, tool, or another that the model's "
                "chat template knows."
            ),
        ]
    ]
    content: str | Annotated[list[MessagePart], Many] | None
    name: Annotated[str, Field(description="The name of who speaks.")]
    tool_calls: Annotated[list[MessageCall], Many]
    tool_call_id: Annotated[str, Field(description="The call that a tool's message answers.")]
    refusal: Annotated[str, Field(description="What the model said as it refused.")]
    reasoning: Annotated[str, Field(description="The thoughts of an answer.")]
    reasoning_content: Annotated[str, Field(description="Another name for `reasoning`.")]


Messages = Annotated[list[ConversationMessage], Many, Field(min_length=1)]
"""A conversation."""


def check_messages(messages: Sequence[ConversationMessage]) -> None:
    """Raise InvalidRequest for too many parts, and for arguments of calls that hold too much.

    These are JSON in texts, which is parsed: the same limits hold for all of them together as for
    the body. Text that is not JSON stays text.
    """
    parts = 0
    calls = []
    for number, message in enumerate(messages):
        if isinstance(content := message.get("content"), list):
            parts += len(content)
        for index, call in enumerate(message.get("tool_calls", ())):
            where = f"messages[{number}].tool_calls[{index}].function.arguments"
            calls.append((where, call["function"]["arguments"]))
    if parts > _MAX_PARTS:
        raise InvalidRequest(
            f"messages: at most {_MAX_PARTS} parts of content in all, got {parts}",
            param="messages",
        )
    if calls:
        check_arguments(calls, "messages")


def as_read(message: ConversationMessage) -> Mapping[str, Any]:
    """A message as chat templates read it: a refusal is a part, and thoughts have one name."""
    if (
        message.get("content") is not None
        and "refusal" not in message
        and "reasoning_content" not in message
    ):
        return message
    read: dict[str, Any] = {**message}
    thoughts, refusal = read.pop("reasoning_content", None), read.pop("refusal", None)
    if thoughts is not None:
        read.setdefault("reasoning", thoughts)
    content = read.pop("content", None)
    if refusal is not None:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        content = [*(content or ()), {"type": "refusal", "refusal": refusal}]
    return read if content is None else read | {"content": content}
