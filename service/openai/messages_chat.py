"""Conversations in the form of Anthropic's Messages, and the chats that they are."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.openai.body import STRICT, Many, Only

_TEXT = Only("prompts and answers are text")
_NO_TOOLS = "the service runs no tools of its own; describe yours by their input_schema"
_BILLING = "x-anthropic-billing-header"
"""How a text begins that Claude Code sends for Anthropic's own servers, with a digest of the
request: a prompt with it would share no cached blocks with any other.
"""


@with_config(STRICT)
class TextBlock(TypedDict):
    """A text."""

    type: Literal["text"]
    text: str


Texts = Annotated[list[Annotated[TextBlock, _TEXT]], Many]


@with_config(STRICT)
class ToolUseBlock(TypedDict):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


@with_config(STRICT)
class ToolResultBlock(TypedDict):
    """What a call came to."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: NotRequired[str | Texts]
    is_error: NotRequired[bool]


@with_config(STRICT)
class ThinkingBlock(TypedDict):
    """Thoughts of the model; their signature is not read."""

    type: Literal["thinking"]
    thinking: str
    signature: NotRequired[str]


@with_config(STRICT)
class RedactedThinkingBlock(TypedDict):
    """Thoughts that only Anthropic's own models can read; passed over."""

    type: Literal["redacted_thinking"]
    data: NotRequired[str]


Block = Annotated[
    TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedThinkingBlock,
    Field(discriminator="type"),
    _TEXT,
]


@with_config(STRICT)
class MessageParam(TypedDict):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Many]


@with_config(STRICT)
class CustomTool(TypedDict):
    """A function that the caller runs; `input_schema` is the JSON schema of its arguments."""

    type: NotRequired[Literal["custom"]]
    name: str
    description: NotRequired[str]
    input_schema: dict[str, Any]
    strict: NotRequired[bool]


Tool = Annotated[CustomTool, Only(_NO_TOOLS, usual="custom")]


def chat_messages(
    system: str | Sequence[TextBlock] | None, messages: Iterable[MessageParam]
) -> Iterator[dict[str, Any]]:
    """The messages of a chat, the system's texts together before all others.

    Many templates read a message of the system only where it is the first.
    """
    given = list(messages)
    texts = [system] if isinstance(system, str) else [_system_text(system or ())]
    texts += [_system_text(each["content"]) for each in given if each["role"] == "system"]
    if any(texts):
        yield {"role": "system", "content": "".join(texts)}
    for message in given:
        if message["role"] != "system":
            yield from _said(message["role"], message["content"])


def chat_tool(tool: CustomTool) -> dict[str, Any]:
    """A tool in the form of a chat's."""
    schema = tool["input_schema"]
    function = {
        "name": tool["name"],
        "description": tool.get("description"),
        "parameters": schema if "type" in schema else {**schema, "type": "object"},
    }
    strict = {"strict": tool["strict"]} if "strict" in tool else {}
    return {"type": "function", "function": function | strict}


def _kept(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if not text.startswith(_BILLING))


def _system_text(content: str | Sequence[Block]) -> str:
    if isinstance(content, str):
        return "".join(_kept([content]))
    return "".join(_kept(each["text"] for each in content if each["type"] == "text"))


def _said(role: str, content: str | Sequence[Block]) -> Iterator[dict[str, Any]]:
    """A message of a user or the model, after the results of calls that stand in it."""
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in content:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "thinking":
            thoughts.append(block["thinking"])
        elif block["type"] == "tool_use":
            calls.append(_call(block))
        elif block["type"] == "tool_result" and role == "user":
            result = _result(block)
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": result}
        elif block["type"] == "tool_result":
            texts.append(f"Tool result: {_result(block)}")
    said: dict[str, Any] = {"role": role}
    parts = [{"type": "text", "text": text} for text in texts if text]
    if thoughts:
        said["reasoning"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    if parts:
        said["content"] = parts[0]["text"] if len(parts) == 1 else parts
    if parts or role == "assistant":
        yield said


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _result(block: ToolResultBlock) -> str:
    content = block.get("content", "")
    return content if isinstance(content, str) else "\n".join(each["text"] for each in content)
