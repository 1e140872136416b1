"""The bodies of chat completions: a conversation, its tools, and how it is to be answered."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.common.error_messages import quote, quote_name
from service.engine.chats import Chat, ToolChoice
from service.errors import InvalidRequest
from service.limits.depth import check_arguments, check_template_kwargs
from service.limits.structure import check_schemas
from service.openai.body import STRICT, Many, Only
from service.openai.sampling import GenerationBody, Text, check_count, check_entries
from service.settings.limits import LimitSettings

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


_ENTRIES = ("messages", "documents", "tools")


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


class ChatBody(GenerationBody):
    """The body of a chat completion: a conversation to be answered."""

    messages: Messages = Field(description="The conversation, the oldest message first.")
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        None, description="The longest answer, in tokens; counts before `max_tokens`."
    )
    max_tokens: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        None, description="The longest answer, in tokens."
    )
    logprobs: bool | None = Field(None, description="Tell the answer's log-probabilities.")
    top_logprobs: int | None = Field(
        None, description="Tell those of so many likely tokens at each place, too."
    )
    tools: Annotated[list[FunctionTool], Many] | None = Field(
        None, description="Functions that the model may call."
    )
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = Field(
        None, description="Whether the answer may or has to call tools; default `auto`."
    )
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one answer.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        Field(None, description="How much the model thinks, where its chat template reads it.")
    )
    include_reasoning: bool = Field(True, description="Tell the thoughts of the answer.")
    documents: Annotated[list[dict[str, Any]], Many] | None = Field(
        None,
        description="Documents that the model's chat template reads, objects of texts.",
        json_schema_extra={"items": {"type": "object", "additionalProperties": {"type": "string"}}},
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the model's chat template, as far as they may be set."
    )
    return_prompt_text: bool = Field(
        False, description="Tell the prompt as the chat template wrote it."
    )
    add_generation_prompt: bool = Field(
        True, description="End the prompt with the beginning of an answer."
    )
    continue_final_message: bool = Field(
        False, description="Continue the last message, in place of an answer to it."
    )
    add_special_tokens: bool = Field(
        False, description="Add special tokens beside those of the chat template."
    )

    @property
    def longest(self) -> int | None:
        asked = self.max_completion_tokens
        return self.max_tokens if asked is None else asked

    @property
    def likely(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def settle(self, limits: LimitSettings, context: int) -> None:
        check_entries(self, limits, *_ENTRIES)
        check_messages(self.messages)
        check_count(self.top_logprobs, 0, limits.logprobs, "top_logprobs")
        if self.top_logprobs and not self.logprobs:
            message = f"top_logprobs: only beside logprobs, got {self.top_logprobs}"
            raise InvalidRequest(message, param="top_logprobs")
        if self.max_completion_tokens is not None:
            self.max_completion_tokens = min(self.max_completion_tokens, context)
        if self.longest is None:
            self.max_tokens = limits.default_max_tokens
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message: only where add_generation_prompt is false",
                param="continue_final_message",
            )
        check_template_kwargs(self.chat_template_kwargs)
        self._check_documents()
        self._check_tools(limits)
        super().settle(limits, context)

    def chat(self) -> Chat:
        """The conversation to answer."""
        return Chat(
            messages=[as_read(message) for message in self.messages],
            tools=[_whole(tool) for tool in self.tools or ()],
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls,
            reasoning_effort=self.reasoning_effort,
            include_reasoning=self.include_reasoning,
            documents=self.documents or (),
            template_kwargs=self.chat_template_kwargs or {},
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
            add_special_tokens=self.add_special_tokens,
            truncate=self.truncate_prompt_tokens,
            truncation_side=self.truncation_side,
        )

    def _tool_choice(self) -> ToolChoice:
        if not self.tools:
            return "none"
        if isinstance(self.tool_choice, dict):
            return f"function:{self.tool_choice['function']['name']}"
        return self.tool_choice or "auto"

    def _check_tools(self, limits: LimitSettings) -> None:
        tools, choice = self.tools or [], self.tool_choice
        schemas = {
            f"tools[{index}].function.parameters": tool["function"]["parameters"]
            for index, tool in enumerate(tools)
            if "parameters" in tool["function"]
        }
        if schemas:
            check_schemas(schemas, limits.tools_bytes, limits, "tools")
        if choice in (None, "none", "auto"):
            return
        if not tools:
            raise InvalidRequest("tool_choice: only beside tools", param="tool_choice")
        if not isinstance(choice, dict):
            return
        name = choice["function"]["name"]
        if all(tool["function"]["name"] != name for tool in tools):
            raise InvalidRequest(
                f"tool_choice.function.name: must be one of the tools, got {quote(name)}",
                param="tool_choice",
            )
        if self.structured_outputs is not None:
            raise InvalidRequest(
                "tool_choice: must name no function beside structured_outputs", param="tool_choice"
            )

    def _check_documents(self) -> None:
        for index, document in enumerate(self.documents or ()):
            for key, value in document.items():
                if not isinstance(value, str):
                    where = f"documents[{index}].{quote_name(key)}"
                    message = f"{where}: must be a text, got {quote(value)}"
                    raise InvalidRequest(message, param=where)


def _whole(tool: FunctionTool) -> Mapping[str, Any]:
    """A tool as chat templates read it: its keys in one order, null for what it lacks."""
    function = tool["function"]
    whole = {name: function.get(name) for name in ("name", "description", "parameters")}
    if "strict" in function:
        whole["strict"] = function["strict"]
    return {"type": "function", "function": whole}
