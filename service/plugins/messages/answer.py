"""Answers of Anthropic's Messages: whole, or as the events of a stream."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired
from uuid import uuid4

from pydantic_core import from_json
from typing_extensions import TypedDict

from service.engine.texts import ToolCall, Writer
from service.generation.conversation import ChatStep, Choice, Usage
from service.http.exchange import NamedEvents
from service.plugins.messages.body import TextBlock, ThinkingBlock, ToolUseBlock

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageUsage(TypedDict):
    """Tokens used; `input_tokens` excludes those read from the cache or written to it."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: NotRequired[int]
    cache_read_input_tokens: int


class MessageAnswer(TypedDict):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextBlock | ThinkingBlock | ToolUseBlock]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(TypedDict):
    """The tokens of a conversation."""

    input_tokens: int


def message(message_id: str, model: str, choice: Choice, usage: Usage) -> MessageAnswer:
    """A whole answer.

    A tool call whose arguments are not a JSON object, because `max_tokens` or a stop string cut it
    off, becomes text.
    """
    said = choice.said
    inputs = [_object(call.arguments) for call in said.calls]
    made = list(zip(said.calls, inputs, strict=True))
    calls = [_call(call, found) for call, found in made if found is not None]
    cut = [call.arguments for call, found in made if found is None]
    text = "".join([said.content or "", *cut])
    content: list[TextBlock | ThinkingBlock | ToolUseBlock] = []
    if said.reasoning:
        content.append(_thoughts(said.reasoning))
    if text or not (content or calls):
        content.append({"type": "text", "text": text})
    finish = choice.finish_reason if said.refusal is None else "refusal"
    reason, stop = _stop_reason(
        finish, choice.part.stop_reason, called=bool(calls), complete=bool(calls)
    )
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [*content, *calls],
        "stop_reason": reason,
        "stop_sequence": stop,
        "usage": _usage(usage),
    }


class MessageEvents(NamedEvents):
    """Writes the events of one streamed answer."""

    def __init__(self, message_id: str, model: str, writer: Writer) -> None:
        super().__init__()
        self._id = message_id
        self._model = model
        self._writer = writer
        self._usage = Usage()
        self._index = 0
        """Index of the block that is open, or else of the next one."""
        self._open = ""
        """The type of the block that is open."""
        self._call: Mapping[str, Any] = {}
        """The first delta of the call that is open, or was last."""
        self._arguments: list[str] = []
        self._held: list[str] = []
        """Text that came beside a tool call; it gets a block of its own after the call's."""
        self._ending: tuple[str | None, int | str | None] = (None, None)

    def begin(self, usage: Usage) -> None:
        """Write the start of the message, with all tokens of its prompt, cached or not."""
        self._usage = usage
        told = {"input_tokens": usage.prompt_tokens, "output_tokens": 0}
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._model}
        ending = {"stop_reason": None, "stop_sequence": None, "usage": told}
        self._add("message_start", message={**head, "content": [], **ending})
        self._write_to(self._writer)

    def take(self, step: ChatStep) -> None:
        """Write more of the answer."""
        if step.finish_reason is not None:
            self._ending = step.finish_reason, step.part.stop_reason
        said = step.delta or {}
        if said.get("refusal"):
            self._ending = "refusal", None
        if thought := said.get("reasoning"):
            self._say("thinking", "thinking", thought)
        if (text := said.get("content")) and self._open == "tool_use":
            self._held.append(text)
        elif text:
            self._say("text", "text", text)
        for call in said.get("tool_calls") or ():
            self._take_call(call)
        self._write_to(self._writer)

    def end(self) -> None:
        """Write the stop reason and the end of the message."""
        self._close()
        finish, stop = self._ending
        called = bool(self._call)
        complete = called and _is_json("".join(self._arguments))
        reason, sequence = _stop_reason(finish or "stop", stop, called=called, complete=complete)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._add("message_delta", delta=delta, usage=_usage(self._usage))
        self._add("message_stop")
        self._write_to(self._writer)

    def _take_call(self, call: Mapping[str, Any]) -> None:
        """Open a block for a tool call that begins, and write its further arguments."""
        function = call.get("function") or {}
        begins = call.get("id") is not None and function.get("name") is not None
        if begins and not (self._open == "tool_use" and call["id"] == self._call["id"]):
            self._close()
            self._call, self._arguments = call, []
            named = {"id": call["id"], "name": function["name"]}
            self._begin({"type": "tool_use", **named, "input": {}})
        arguments = function.get("arguments")
        if arguments and self._open == "tool_use" and call["index"] == self._call["index"]:
            self._arguments.append(arguments)
            self._delta(type="input_json_delta", partial_json=arguments)

    def _say(self, kind: str, key: str, text: str) -> None:
        if self._open != kind:
            self._close()
            self._begin({"type": kind, key: ""})
        self._delta(**{"type": f"{kind}_delta", key: text})

    def _begin(self, block: Mapping[str, Any]) -> None:
        self._open = block["type"]
        self._add("content_block_start", index=self._index, content_block=block)

    def _delta(self, **delta: str) -> None:
        self._add("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> None:
        """End the block that is open, and write the text that came beside it."""
        if not self._open:
            return
        if self._open == "thinking":
            self._delta(type="signature_delta", signature=uuid4().hex)
        self._add("content_block_stop", index=self._index)
        self._index += 1
        self._open = ""
        if self._held:
            text, self._held = "".join(self._held), []
            self._say("text", "text", text)
            self._close()


def _thoughts(text: str) -> ThinkingBlock:
    """A block of thoughts; the signature is a placeholder, which clients send back with them."""
    return {"type": "thinking", "thinking": text, "signature": uuid4().hex}


def _call(call: ToolCall, given: dict[str, Any]) -> ToolUseBlock:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _usage(usage: Usage) -> MessageUsage:
    created = usage.created_tokens
    new = usage.prompt_tokens - usage.cached_tokens - (created or 0)
    told: MessageUsage = {
        "input_tokens": max(0, new),
        "output_tokens": usage.completion_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
    }
    if created is not None:
        told["cache_creation_input_tokens"] = created
    return told


def _stop_reason(
    finish: str, stop: int | str | None, *, called: bool, complete: bool
) -> tuple[StopReason, str | None]:
    """Why a message ended, and the stop sequence that ended it.

    A stop sequence within the last call, which is not `complete`, comes before that call: it must
    not run.
    """
    if finish == "length":
        return "max_tokens", None
    if finish == "refusal":
        return "refusal", None
    if isinstance(stop, str) and not complete:
        return "stop_sequence", stop
    return ("tool_use" if called or finish == "tool_calls" else "end_turn"), None


def _object(text: str) -> dict[str, Any] | None:
    """Parse a text as a JSON object; None for anything else."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True
