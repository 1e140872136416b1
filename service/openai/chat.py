"""OpenAI's chat completions: the body, and the answer to it, whole or as server-sent events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from service.common.error_messages import quote, quote_name
from service.context import RequestContext
from service.engine.contract import Structure
from service.engine.texts import Chat, ToolChoice, Writer
from service.errors import InvalidRequest
from service.generation.conversation import ChatStep, Choice, Conversation, Usage
from service.limits.caps import check_arguments, check_template_kwargs
from service.limits.structure import check_schemas
from service.openai.body import Many
from service.openai.chat_types import ConversationMessage, FunctionTool, Messages, NamedToolChoice
from service.openai.envelope import (
    Chunks,
    Event,
    Told,
    chat_logprobs,
    head_of,
    told_prompt_logprobs,
    usage_of,
    whole_answer,
)
from service.openai.sampling import GenerationBody, check_count, check_entries
from service.settings.limits import LimitSettings

_MAX_PARTS = 4096


def check_parts(contents: Iterable[object], param: str) -> None:
    """Raise InvalidRequest for too many parts of the contents that are lists."""
    parts = sum(len(each) for each in contents if isinstance(each, list))
    if parts > _MAX_PARTS:
        message = f"{param}: at most {_MAX_PARTS} parts of content in all, got {parts}"
        raise InvalidRequest(message, param=param)


def check_messages(messages: Sequence[ConversationMessage]) -> None:
    """Raise InvalidRequest for too many parts, and for arguments of tool calls that are too large.

    Arguments are strings of JSON, which are parsed, so the body's limits apply to all of them
    together. A string that is not JSON is kept as text.
    """
    check_parts((message.get("content") for message in messages), "messages")
    calls = []
    for number, message in enumerate(messages):
        for index, call in enumerate(message.get("tool_calls", ())):
            where = f"messages[{number}].tool_calls[{index}].function.arguments"
            calls.append((where, call["function"]["arguments"]))
    if calls:
        check_arguments(calls, "messages")


def as_read(message: ConversationMessage) -> Mapping[str, Any]:
    """A message as chat templates expect it: a refusal as a part, one name for reasoning."""
    read: dict[str, Any] = {**message}
    if (thoughts := read.pop("reasoning_content", None)) is not None:
        read.setdefault("reasoning", thoughts)
    if (refusal := read.pop("refusal", None)) is not None:
        content = read.get("content") or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        read["content"] = [*parts, {"type": "refusal", "refusal": refusal}]
    if read.get("content") is None:
        read.pop("content", None)
    return read


_ENTRIES = ("messages", "documents", "tools")


class ChatBody(GenerationBody):
    """The body of a chat completion: a conversation to be answered."""

    messages: Messages = Field(description="The conversation, the oldest message first.")
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """The longest answer, in tokens; takes precedence over `max_tokens`."""
    max_tokens: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """The longest answer, in tokens."""
    logprobs: bool | None = Field(None, description="Tell the answer's log-probabilities.")
    top_logprobs: int | None = None
    """Also return the log-probabilities of so many of the most likely tokens at each place."""
    tools: Annotated[list[FunctionTool], Many] | None = None
    """Functions that the model may call."""
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    """Whether the answer may or has to call tools; default `auto`."""
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
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the model's chat template, as far as they may be set."""
    return_prompt_text: bool = False
    """Tell the prompt as the chat template wrote it."""
    add_generation_prompt: bool = True
    """End the prompt with the beginning of an answer."""
    continue_final_message: bool = False
    """Continue the last message, in place of an answer to it."""
    add_special_tokens: bool = False
    """Add special tokens beside those of the chat template."""

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

    @property
    def structure(self) -> Structure | None:
        """The constraint on the answer; only a `strict` schema must be enforced in full."""
        found = super().structure
        if found is None or found.json_schema is None:
            return found
        asked: Mapping[str, Any] = self.response_format or {}
        return replace(found, strict=bool(asked.get("json_schema", {}).get("strict")))

    def chat(self) -> Chat:
        """The conversation to answer."""
        return Chat(
            messages=[as_read(message) for message in self.messages],
            tools=[chat_tool(tool["function"]) for tool in self.tools or ()],
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


def chat_tool(function: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as chat templates expect it: keys in a fixed order, null for missing ones."""
    whole = {key: function.get(key) for key in ("name", "description", "parameters")}
    if "strict" in function:
        whole["strict"] = function["strict"]
    return {"type": "function", "function": whole}


async def whole_chat(conversation: Conversation, told: Told, context: RequestContext) -> bytes:
    """The JSON of a whole answer; raises as `ServedModel.run`."""
    head = head_of(context, "chatcmpl-", "chat.completion")
    choices, usage = await conversation.whole()
    return whole_answer(
        head,
        told,
        context,
        [_choice(each, conversation, told) for each in choices],
        usage,
        prompt_logprobs=told_prompt_logprobs(conversation.prompt_logprobs),
        prompt_token_ids=told.prompt_ids,
        prompt_text=told.prompt_text,
    )


def _choice(choice: Choice, conversation: Conversation, told: Told) -> Event:
    said, part = choice.said, choice.part
    message: Event = {
        "role": conversation.prepared.role,
        "content": said.content if said.refusal is None else None,
        "refusal": said.refusal,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if said.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.calls
        ]
    message["reasoning"] = said.reasoning
    return {
        "index": choice.index,
        "message": message,
        "logprobs": chat_logprobs(part, told.logprobs, told.names),
        "finish_reason": choice.finish_reason,
        "stop_reason": part.stop_reason,
        "token_ids": told.ids(part.token_ids),
        "routed_experts": None,
    }


class ChatEvents:
    """Writes the events of a streamed chat; implements `conversation.ChatListener`.

    The first event is written together with the first text, and the last text with the end.
    """

    def __init__(
        self, conversation: Conversation, told: Told, context: RequestContext, writer: Writer
    ) -> None:
        head = head_of(context, "chatcmpl-", "chat.completion.chunk")
        self._answers = conversation.prepared.sampling.n
        self._chunks = Chunks(head, told, context, writer, self._answers, _text_choice)
        self._told = told
        self._conversation = conversation
        self._plain = self._answers == 1 and not told.details
        self._usage = Usage()

    def begin(self, usage: Usage) -> None:
        """Write the first event of each answer, which names its speaker."""
        self._usage = usage
        prepared, told = self._conversation.prepared, self._told
        delta = {"role": prepared.role, "content": ""}
        for index in range(self._answers):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            more = self._counted(0, usage.reasoning_tokens)
            more |= {"prompt_token_ids": told.prompt_ids, "prompt_text": told.prompt_text}
            self._chunks.hold(choice, more)

    def take(self, step: ChatStep) -> None:
        """Write the event of a step."""
        ends = step.finish_reason is not None
        if not ends and self._is_text(step):
            self._chunks.write_text(str((step.delta or {})["content"]))
            return
        part, told = step.part, self._told
        choice: Event = {
            "index": step.index,
            "delta": step.delta or {},
            "logprobs": chat_logprobs(part, told.logprobs, told.names),
            "finish_reason": step.finish_reason,
        }
        if ends:
            choice["stop_reason"] = part.stop_reason
        choice["token_ids"] = told.ids(part.token_ids)
        self._chunks.write(choice, self._counted(step.tokens, step.reasoning_tokens))

    def end(self) -> None:
        """Write the usage, if it is asked for, and the end."""
        self._chunks.end(self._usage)

    def _is_text(self, step: ChatStep) -> bool:
        """True for a step of a single answer whose event differs from others only in its text."""
        return (
            self._plain
            and step.delta is not None
            and step.delta.keys() == {"content"}
            and step.delta["content"] is not None
        )

    def _counted(self, tokens: int, reasoning: int | None) -> Event:
        """The usage of an event before the last: this answer's tokens, without cached ones."""
        if not self._told.usage_always:
            return {}
        counts = Usage(
            self._usage.prompt_tokens, completion_tokens=tokens, reasoning_tokens=reasoning
        )
        usage = usage_of(counts, self._told.options)
        del usage["prompt_tokens_details"]  # vLLM tells them in the last event alone
        return {"usage": usage}


def _text_choice(text: str) -> Event:
    return {
        "index": 0,
        "delta": {"content": text},
        "logprobs": None,
        "finish_reason": None,
        "token_ids": None,
    }
