"""The input of OpenAI's Responses: its items, and their conversion to messages of a chat."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, Discriminator, Field, Tag, with_config
from typing_extensions import TypedDict

from service.errors import InvalidRequest
from service.limits.caps import check_arguments
from service.openai.body import STRICT, TEXT_ONLY, Many, Only
from service.openai.chat import check_parts
from service.openai.chat_types import RefusalPart
from service.settings.limits import LimitSettings

# A plain union would report a fault within a list as "not a text".
_TEXT_OR_LIST = Discriminator(lambda value: "list" if isinstance(value, list) else "text")
_PARTIAL = ("in_progress", "incomplete")
_PARTS = ("content", "output", "summary")


@with_config(STRICT)
class InputText(TypedDict):
    """Text for the model."""

    type: Literal["input_text"]
    text: str


@with_config(STRICT)
class PassedToken(TypedDict, total=False):
    """A token of an earlier answer; ignored."""

    token: Any
    bytes: Any
    logprob: Any


@with_config(STRICT)
class PassedLogprob(PassedToken, total=False):
    """A token of an earlier answer with its likely alternatives; ignored."""

    top_logprobs: Annotated[list[PassedToken], Many]


@with_config(STRICT)
class OutputText(TypedDict):
    """Text of an answer."""

    type: Literal["output_text"]
    text: str
    logprobs: NotRequired[Annotated[list[PassedLogprob], Many]]


@with_config(STRICT)
class ResultText(TypedDict):
    """Text of a function's result."""

    type: Literal["input_text", "output_text"]
    text: str


@with_config(STRICT)
class ThoughtText(TypedDict):
    """Text of a thought."""

    type: NotRequired[str]
    text: str


Part = Annotated[InputText | OutputText | RefusalPart, Field(discriminator="type"), Only(TEXT_ONLY)]


@with_config(STRICT)
class MessageItem(TypedDict):
    """One message of the conversation; if the last one is incomplete, the answer continues it."""

    type: NotRequired[Literal["message"]]
    id: NotRequired[str]
    role: Literal["user", "system", "developer", "assistant"]
    status: NotRequired[str]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Part], Many, Tag("list")], _TEXT_OR_LIST
    ]


@with_config(STRICT)
class CallItem(TypedDict):
    """A call of a function that the model made."""

    type: Literal["function_call"]
    id: NotRequired[str]
    call_id: str
    name: str
    arguments: Annotated[str, Field(description="JSON.")]
    status: NotRequired[str]


@with_config(STRICT)
class ResultItem(TypedDict):
    """What a function that the model called has returned."""

    type: Literal["function_call_output"]
    id: NotRequired[str]
    call_id: str
    output: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[Annotated[ResultText, Only(TEXT_ONLY)]], Many, Tag("list")],
        _TEXT_OR_LIST,
    ]
    status: NotRequired[str]


@with_config(STRICT)
class ThoughtItem(TypedDict):
    """What the model thought: its `content` or, without one, the `summary`."""

    type: Literal["reasoning"]
    id: NotRequired[str]
    status: NotRequired[str]
    encrypted_content: NotRequired[str]
    content: NotRequired[Annotated[list[ThoughtText], Many]]
    summary: NotRequired[Annotated[list[ThoughtText], Many]]


Item = Annotated[
    MessageItem | CallItem | ResultItem | ThoughtItem,
    Field(discriminator="type"),
    Only("no response is kept, and the service runs no tools of its own", usual="message"),
]


def _typed(value: Any) -> Any:
    """Set the `type` of items that have none: they are messages."""
    return [
        {**item, "type": "message"} if isinstance(item, dict) and "type" not in item else item
        for item in value
    ]


Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Item], Many, BeforeValidator(_typed), Tag("list")],
    _TEXT_OR_LIST,
]
"""A text of the user, or a conversation."""


def check_items(items: Sequence[Any], limits: LimitSettings) -> None:
    """Raise InvalidRequest for too many items or parts, arguments over a cap, hidden thoughts."""
    if not 1 <= len(items) <= limits.messages:
        message = f"input: must hold 1..{limits.messages} items, got {len(items)}"
        raise InvalidRequest(message, param="input")
    check_parts((item.get(key) for item in items for key in _PARTS), "input")
    calls = []
    for number, item in enumerate(items):
        if "arguments" in item:
            calls.append((f"input[{number}].arguments", item["arguments"]))
        if item.get("encrypted_content"):
            name = f"input[{number}].encrypted_content"
            raise InvalidRequest(f"{name}: cannot be read; send content", param=name)
    if calls:
        check_arguments(calls, "input")


def goes_on(items: Sequence[Any]) -> bool:
    """True if the last item is an unfinished message or thought, which the answer continues."""
    last = items[-1]
    return last["type"] in ("message", "reasoning") and last.get("status") in _PARTIAL


def messages_of(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Convert items to messages of a chat; consecutive items of the assistant become one message.

    Such a message has at most one thought and one text, but any number of calls.
    """
    messages: list[dict[str, Any]] = []
    for item in items:
        match item:
            case {"type": "function_call"}:
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                _assistant(messages).setdefault("tool_calls", []).append(call)
            case {"type": "function_call_output"}:
                result = {"tool_call_id": item["call_id"], "content": _content(item["output"])}
                messages.append({"role": "tool", **result})
            case {"type": "reasoning"}:
                thought = _joined(item.get("content")) or _joined(item.get("summary"))
                _assistant(messages, "reasoning")["reasoning"] = thought
            case {"role": "assistant"}:
                _assistant(messages, "content")["content"] = _joined(item["content"])
            case _:
                messages.append({"role": item["role"], "content": _content(item["content"])})
    return messages


def _assistant(messages: list[dict[str, Any]], lacking: str = "") -> dict[str, Any]:
    """The last message if it is the assistant's and has no field `lacking`; else a new one."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or lacking in last:
        last = {"role": "assistant"}
        messages.append(last)
    return last


def _content(value: str | Sequence[Mapping[str, Any]]) -> str | list[Mapping[str, Any]]:
    if isinstance(value, str):
        return value
    return [
        part if part["type"] == "refusal" else {"type": "text", "text": part["text"]}
        for part in value
    ]


def _joined(value: str | Sequence[Mapping[str, Any]] | None) -> str:
    if isinstance(value, str):
        return value
    return "".join(part.get("text", part.get("refusal", "")) for part in value or ())
