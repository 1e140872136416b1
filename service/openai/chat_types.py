"""The parts of a chat's body: messages, calls and tools."""

from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.openai.body import STRICT, TEXT_ONLY, Many, Only
from service.openai.sampling import Text


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
    Only(TEXT_ONLY),
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


@with_config(STRICT)
class ToolFunction(TypedDict):
    """A function that the model may call."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[
        Annotated[dict[str, Any], Field(description="A JSON schema of its arguments.")]
    ]
    strict: NotRequired[bool]


@with_config(STRICT)
class FunctionTool(TypedDict):
    """A tool that the model may call; tools are functions."""

    type: NotRequired[Literal["function"]]
    function: ToolFunction


@with_config(STRICT)
class ChosenFunction(TypedDict):
    """The function that the answer has to call."""

    name: Text


@with_config(STRICT)
class NamedToolChoice(TypedDict):
    """The tool that the answer has to call."""

    type: NotRequired[Literal["function"]]
    function: ChosenFunction
