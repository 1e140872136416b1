"""Request bodies of Anthropic's Messages, and their conversion to chats.

tests/engine/test_messages.py compares the fields with vLLM's request models and Anthropic's SDK.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.common.error_messages import quote
from service.engine.contract import Sampling, Structure
from service.engine.texts import Chat, ToolChoice, size_of
from service.errors import InvalidRequest
from service.limits.caps import check_template_kwargs
from service.limits.structure import check_schema, check_schemas
from service.openai.body import OPERATORS, STRICT, TEXT_ONLY, Body, Int64, Many, Only, Rules
from service.openai.chat import chat_tool, check_parts
from service.openai.sampling import Text, check_entries
from service.settings.limits import LimitSettings

_TEXT = Only(TEXT_ONLY)
_NO_TOOLS = "the service runs no tools of its own; describe yours by their input_schema"
_BILLING = "x-anthropic-billing-header"
"""Prefix of a text that Claude Code sends for Anthropic's own servers, with a digest of the
request: a prompt with it would share no cached blocks with any other."""


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
    """The result of a tool call."""

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
    """Thoughts that only Anthropic's own models can read; ignored."""

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
    """Convert a conversation to messages of a chat, with all texts of the system in the first one.

    Many templates read a system message only where it is the first.
    """
    given = list(messages)
    texts = [system] if isinstance(system, str) else [_system_text(system or ())]
    texts += [_system_text(each["content"]) for each in given if each["role"] == "system"]
    if any(texts):
        yield {"role": "system", "content": "".join(texts)}
    for message in given:
        if message["role"] != "system":
            yield from _said(message["role"], message["content"])


def _kept(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if not text.startswith(_BILLING))


def _system_text(content: str | Sequence[Block]) -> str:
    if isinstance(content, str):
        return "".join(_kept([content]))
    return "".join(_kept(each["text"] for each in content if each["type"] == "text"))


def _said(role: str, content: str | Sequence[Block]) -> Iterator[dict[str, Any]]:
    """Convert one message; results of tool calls in it come first, as messages of their own."""
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


_ANTHROPIC = "it is a feature of Anthropic's own servers"

ANTHROPIC = Rules(
    hints=frozenset(
        """cache_control caller citations diagnostics eager_input_streaming input_examples metadata
        service_tier""".split()
    ),
    no_ops={
        "betas": ([],),
        "context_management": (
            {"edits": []},
            {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        ),
        "fallbacks": ([],),
        "mcp_servers": ([],),
        "speed": ("standard",),
        "stop_sequences": ([],),
        "system": ([],),
        "tools": ([],),
    },
    refused={
        "betas": "send the header anthropic-beta",
        "billing_policy": _ANTHROPIC,
        "cache_salt": "each tenant has its own",
        "compaction": "send what shall be read",
        "container": "the service runs no tools of its own",
        "context_management": "send what shall be read",
        "ec_transfer_params": OPERATORS,
        "fallback_credit_token": _ANTHROPIC,
        "fallbacks": "a request has one model",
        "inference_geo": "the service runs in one place",
        "kv_transfer_params": OPERATORS,
        "mcp_servers": "the service runs no tools of its own",
        "mm_payload": TEXT_ONLY,
        "output_format": "set output_config.format",
        "return_mm_kwargs": TEXT_ONLY,
        "speed": "all requests run at one speed",
        "thread": "no conversation is kept; send all of its messages",
        "user_profile_id": _ANTHROPIC,
        "vllm_xargs": OPERATORS,
        "watermarking": OPERATORS,
        "workspace_id": _ANTHROPIC,
    },
)
"""The rules of messages and of token counts."""


@with_config(STRICT)
class MessageThinking(TypedDict):
    """Whether the model thinks before it answers; the thoughts are always returned."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: NotRequired[Annotated[Int64, Field(ge=1024)]]
    display: NotRequired[Literal["summarized", "omitted", "updates"]]


@with_config(STRICT)
class JsonOutputFormat(TypedDict):
    """The answer is JSON that the schema describes."""

    type: NotRequired[Literal["json_schema"]]
    schema: dict[str, Any]


@with_config(STRICT)
class OutputConfig(TypedDict):
    """The reasoning effort of the model, and the form of its answer."""

    effort: NotRequired[Literal["low", "medium", "high", "xhigh", "max"]]
    format: NotRequired[JsonOutputFormat]


@with_config(STRICT)
class MessageToolChoice(TypedDict):
    """Whether the answer may contain tool calls; `name` is the tool that must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: NotRequired[str]
    disable_parallel_tool_use: NotRequired[bool]


class CountTokensBody(Body):
    """The body of a count of tokens: a conversation."""

    rules: ClassVar[Rules] = ANTHROPIC

    messages: Annotated[list[MessageParam], Many]
    """The conversation, the oldest message first."""
    system: str | Texts | None = Field(None, description="What the model is told before it.")
    thinking: MessageThinking | None = None
    """Whether the model thinks before it answers."""
    output_config: OutputConfig | None = None
    """The reasoning effort of the model, and the form of its answer."""
    tools: Annotated[list[Tool], Many] | None = None
    """Functions that the model may call."""
    tool_choice: MessageToolChoice | None = None
    """Whether the answer may or has to call tools; default `auto`."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the model's chat template, as far as they may be set."""

    def settle(self, limits: LimitSettings, context: int) -> None:
        """Check the limits of the settings; raises InvalidRequest."""
        _check_count(self.messages, 1, limits.messages, "messages")
        check_parts((each["content"] for each in self.messages), "messages")
        if isinstance(self.system, list):
            _check_count(self.system, 0, limits.messages, "system")
        check_template_kwargs(self.chat_template_kwargs)
        if (form := (self.output_config or {}).get("format")) is not None:
            check_schema(form["schema"], limits, "output_config.format.schema")
        self._check_tools(limits)

    def chat(self) -> Chat:
        """The conversation.

        `reasoning_effort` is `least` where thinking is disabled.
        """
        choice: MessageToolChoice = self.tool_choice or {"type": "auto"}
        config = self.output_config or {}
        disabled = self.thinking is not None and self.thinking["type"] == "disabled"
        return Chat(
            messages=list(chat_messages(self.system, self.messages)),
            tools=[chat_tool(_with_parameters(each)) for each in self.tools or ()],
            tool_choice=_tool_choice(choice) if self.tools else "none",
            parallel_tool_calls=not choice.get("disable_parallel_tool_use", False),
            reasoning_effort="least" if disabled else config.get("effort"),
            template_kwargs=self.chat_template_kwargs or {},
            add_generation_prompt=not self.continues,
            continue_final_message=self.continues,
        )

    @property
    def continues(self) -> bool:
        """True if the conversation ends with the beginning of the answer, which then goes on."""
        last = self.messages[-1]
        content = last["content"]
        kinds = {"text"} if isinstance(content, str) else {each["type"] for each in content}
        return last["role"] == "assistant" and kinds == {"text"}

    def sampling(self, defaults: Mapping[str, Any]) -> Sampling:
        """Nothing is sampled: only the prompt is counted."""
        return Sampling(max_tokens=None)

    def _check_tools(self, limits: LimitSettings) -> None:
        check_entries(self, limits, "tools")
        tools = self.tools or []
        schemas = {f"tools[{n}].input_schema": tool["input_schema"] for n, tool in enumerate(tools)}
        check_schemas(schemas, limits.tools_bytes, limits, "tools")
        choice: MessageToolChoice = self.tool_choice or {"type": "auto"}
        if choice["type"] == "any" and not tools:
            raise InvalidRequest("tool_choice: any needs tools", param="tool_choice")
        name = choice.get("name")
        if choice["type"] == "tool" and name not in [tool["name"] for tool in tools]:
            message = f"tool_choice.name: must be one of the tools, got {quote(name)}"
            raise InvalidRequest(message, param="tool_choice")


class MessagesBody(CountTokensBody):
    """The body of a message: a conversation to be answered."""

    max_tokens: Annotated[Int64, Field(ge=1, description="The longest answer, in tokens.")]
    stop_sequences: Annotated[list[Text], Many] | None = None
    """Texts that end the answer, which leaves them out."""
    stream: bool = Field(False, description="Send the answer as server-sent events.")
    temperature: Annotated[float, Field(ge=0)] | None = Field(None, description="0 is greedy.")
    top_k: Annotated[Int64, Field(ge=-1)] | None = None
    """Sample from so many of the most likely tokens; 0 and -1 are off."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample from the most likely tokens that have this probability together."""

    def settle(self, limits: LimitSettings, context: int) -> None:
        """Check the limits of the settings, and lower `max_tokens` to what the context leaves."""
        super().settle(limits, context)
        stops = self.stop_sequences or []
        _check_count(stops, 0, limits.stop, "stop_sequences")
        for index, stop in enumerate(stops):
            if (size := size_of(stop)) > limits.stop_bytes:
                name = f"stop_sequences[{index}]"
                message = f"{name}: at most {limits.stop_bytes} bytes, got {size}"
                raise InvalidRequest(message, param=name)
        _check_budget(self.thinking, self.max_tokens)
        self.max_tokens = min(self.max_tokens, context)

    def sampling(self, defaults: Mapping[str, Any]) -> Sampling:
        """How to sample; `defaults` are the model's own."""
        form = (self.output_config or {}).get("format")
        thinking = self.thinking or {"type": "adaptive"}
        budget = thinking.get("budget_tokens") if thinking["type"] == "enabled" else None
        asked = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        chosen = {name: value for name, value in asked.items() if value is not None}
        return Sampling(
            **{**defaults, **chosen, "max_tokens": self.max_tokens},
            stop=tuple(self.stop_sequences or ()),
            thinking_token_budget=budget,
            structure=None if form is None else Structure(json_schema=form["schema"], strict=False),
        )


def _check_count(entries: list[Any], least: int, limit: int, name: str) -> None:
    if not least <= len(entries) <= limit:
        message = f"{name}: must hold {least}..{limit} entries, got {len(entries)}"
        raise InvalidRequest(message, param=name)


def _check_budget(thinking: MessageThinking | None, max_tokens: int) -> None:
    if thinking is None or thinking["type"] != "enabled":
        return
    name, budget = "thinking.budget_tokens", thinking.get("budget_tokens")
    if budget is None:
        raise InvalidRequest(f"{name}: required", param=name)
    if budget >= max_tokens:
        message = f"{name}: must be less than max_tokens ({max_tokens}), got {budget}"
        raise InvalidRequest(message, param=name)


def _with_parameters(tool: CustomTool) -> Mapping[str, Any]:
    """A tool with its input schema as the `parameters` of a chat's tool, which must have a type."""
    schema = tool["input_schema"]
    return {**tool, "parameters": schema if "type" in schema else {**schema, "type": "object"}}


def _tool_choice(choice: MessageToolChoice) -> ToolChoice:
    if choice["type"] == "tool":
        return f"function:{choice['name']}"
    return "required" if choice["type"] == "any" else choice["type"]
