"""Answers to OpenAI's chat completions, whole or as server-sent events."""

from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from service.context import RequestContext
from service.engine.contract import Part
from service.engine.protocol import AnswerOptions
from service.engine.roles import LanguageModel
from service.engine.writer import Writer
from service.generation.conversation import ChatStep, Choice, Conversation, Usage
from service.openai.chat_body import ChatBody
from service.openai.envelope import (
    DONE,
    Event,
    TokenNames,
    asked_usage,
    chat_logprobs,
    event_of,
    head_of,
    named_tier,
    text_frame,
    told_prompt_logprobs,
    usage_of,
    without_nulls,
)


@dataclass(frozen=True, slots=True)
class ChatTold:
    """What the answer to a chat tells beside its text, as the body asks for it.

    `top_logprobs` is None where no log-probabilities are asked for.
    """

    options: AnswerOptions
    names: TokenNames
    top_logprobs: int | None = None
    token_ids: bool = False
    usage: bool = False
    usage_always: bool = False
    prompt_text: str | None = None

    @classmethod
    def of(cls, body: ChatBody, model: LanguageModel, prompt_text: str | None) -> "ChatTold":
        """What a body asks for, with the text of the prompt where it is asked for."""
        options = model.model.answers
        usage, always = asked_usage(body.stream_options, options)
        return cls(
            options,
            TokenNames.asked(model, body.return_tokens_as_token_ids),
            top_logprobs=body.likely,
            token_ids=bool(body.return_token_ids),
            usage=usage,
            usage_always=always,
            prompt_text=prompt_text,
        )

    @property
    def details(self) -> bool:
        """True if the answer tells its tokens."""
        return self.top_logprobs is not None or self.token_ids


async def whole_chat(conversation: Conversation, told: ChatTold, context: RequestContext) -> bytes:
    """The JSON of a whole answer; raises as `Generator.run`."""
    head = head_of(context, "chatcmpl-", "chat.completion")
    choices, usage = await conversation.whole()
    ids = conversation.prepared.prompt.token_ids if told.token_ids else None
    return to_json(
        {
            **head,
            "choices": [_choice(each, conversation, told) for each in choices],
            "service_tier": named_tier(context),
            "system_fingerprint": told.options.fingerprint,
            "usage": _usage(usage, told.options),
            "prompt_logprobs": told_prompt_logprobs(conversation.prompt_logprobs),
            "prompt_token_ids": ids and list(ids),
            "prompt_text": told.prompt_text,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


def _choice(choice: Choice, conversation: Conversation, told: ChatTold) -> Event:
    said, part = choice.said, choice.part
    message: Event = {
        "role": conversation.prepared.role,
        "content": said.content,
        "refusal": None,
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
    logprobs = told.top_logprobs is not None and not conversation.hides_tokens
    return {
        "index": choice.index,
        "message": message,
        "logprobs": chat_logprobs(part, told.top_logprobs or 0, told.names) if logprobs else None,
        "finish_reason": choice.finish_reason,
        "stop_reason": part.stop_reason,
        "token_ids": _token_ids(part.token_ids, conversation, told),
        "routed_experts": None,
    }


def _token_ids(token_ids: Any, conversation: Conversation, told: ChatTold) -> list[int] | None:
    return list(token_ids) if told.token_ids and not conversation.hides_tokens else None


def _usage(usage: Usage, options: AnswerOptions) -> Event:
    return usage_of(
        usage.prompt_tokens,
        usage.completion_tokens,
        options,
        usage.cached_tokens,
        usage.created_tokens,
        usage.reasoning_tokens,
    )


class ChatEvents:
    """Writes the events of a streamed chat; implements `conversation.ChatListener`.

    The beginning goes with the first text, and the last text with the end, in one part each: a
    client is woken once for both.
    """

    def __init__(
        self, conversation: Conversation, told: ChatTold, context: RequestContext, writer: Writer
    ) -> None:
        self._conversation = conversation
        self._told = told
        self._writer = writer
        self._tier = named_tier(context)
        self._head = head_of(context, "chatcmpl-", "chat.completion.chunk")
        self._answers = conversation.prepared.sampling.n
        self._ended = 0
        self._pending: list[bytes] = []
        self._usage = Usage()
        self._frame: tuple[bytes, bytes] | None = None

    def begin(self, usage: Usage) -> None:
        """The first event of each answer names its speaker."""
        self._usage = usage
        delta = {"role": self._conversation.prepared.role, "content": ""}
        ids = self._conversation.prepared.prompt.token_ids if self._told.token_ids else None
        for index in range(self._answers):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            more = {"prompt_token_ids": ids and list(ids), "prompt_text": self._told.prompt_text}
            first = ChatStep(index, delta, Part(index, "", ()))
            first.reasoning_tokens = usage.reasoning_tokens
            self._pending.append(self._event(first, choice, more))

    def take(self, step: ChatStep) -> None:
        """An event of a step."""
        part, told = step.part, self._told
        if step.finish_reason is not None:
            self._ended += 1
        elif self._is_text(step):
            self._write(self._text_event(str((step.delta or {})["content"])))
            return
        logprobs = None
        if told.top_logprobs is not None and not self._conversation.hides_tokens:
            logprobs = chat_logprobs(part, told.top_logprobs, told.names)
        choice = {
            "index": step.index,
            "delta": step.delta or {},
            "logprobs": logprobs,
            "finish_reason": step.finish_reason,
        }
        if step.finish_reason is not None:
            choice["stop_reason"] = part.stop_reason
        choice["token_ids"] = _token_ids(part.token_ids, self._conversation, told)
        more = {}
        if step.finish_reason is not None and not told.usage and told.options.fingerprint:
            more["system_fingerprint"] = told.options.fingerprint
        self._write(self._event(step, choice, more))

    def end(self) -> None:
        """The usage, where it is asked for, and the end."""
        if self._told.usage:
            body = {
                **self._head,
                "choices": [],
                "usage": _usage(self._usage, self._told.options),
                "system_fingerprint": self._told.options.fingerprint,
            }
            self._pending.append(event_of(without_nulls(body), self._tier))
        self._pending.append(DONE)
        self._flush()

    def _is_text(self, step: ChatStep) -> bool:
        """True for a step of the only answer that differs from others in its text alone."""
        return (
            self._answers == 1
            and step.delta is not None
            and step.delta.keys() == {"content"}
            and step.delta["content"] is not None
            and not (self._told.details or self._told.usage_always)
        )

    def _text_event(self, text: str) -> bytes:
        if self._frame is None:
            self._frame = text_frame(self._made_of_text)
        return self._frame[0] + to_json(text) + self._frame[1]

    def _made_of_text(self, text: str) -> bytes:
        choice = {
            "index": 0,
            "delta": {"content": text},
            "logprobs": None,
            "finish_reason": None,
            "token_ids": None,
        }
        return self._event(ChatStep(0, None, Part(0, "", ())), choice, {})

    def _event(self, step: ChatStep, choice: Event, more: Event) -> bytes:
        body = {**self._head, "choices": [choice]}
        if self._told.usage_always:
            # It counts the tokens of this answer, and no cached ones.
            prompt, options = self._usage.prompt_tokens, self._told.options
            usage = usage_of(prompt, step.tokens, options, reasoning=step.reasoning_tokens)
            body["usage"] = without_details(usage)
        return event_of({**body, **more}, self._tier)

    def _write(self, event: bytes) -> None:
        self._pending.append(event)
        if self._ended < self._answers:  # else the end follows at once
            self._flush()

    def _flush(self) -> None:
        parts, self._pending = self._pending, []
        self._writer.write(b"".join(parts))


def without_details(usage: Event) -> Event:
    """The usage of an event that is not the last, as vLLM tells it."""
    return {key: each for key, each in usage.items() if key != "prompt_tokens_details"}
