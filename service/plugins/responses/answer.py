"""OpenAI's Responses: an answer as a response object, whole or as a stream of its parts."""

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from service.context import RequestContext
from service.engine.contract import Part, Sampling
from service.engine.texts import Writer
from service.generation.conversation import ChatStep, Choice, Conversation, Usage
from service.generation.served_model import ServedModel
from service.http.exchange import NamedEvents
from service.openai.envelope import TokenNames, chat_logprobs
from service.plugins.responses.body import ResponseBody

Fields = dict[str, Any]


class Item:
    """An item of a response's output, whose text grows; `of` names its type in events."""

    prefix: ClassVar[str]
    of: ClassVar[str]
    place: ClassVar[Fields] = {"content_index": 0}

    def __init__(self, text: str = "") -> None:
        self.id = f"{self.prefix}_{uuid4().hex[:16]}"
        self._texts = [text]

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def add(self, text: str) -> None:
        """Append to the text."""
        self._texts.append(text)

    def part(self) -> Fields | None:
        """The item's only content part; None for an item without parts."""

    def told(self) -> Fields:
        """The complete text, as fields of its final event."""
        return {"text": self.text}

    def shown(self, status: str) -> Fields:
        """The item as an object."""
        raise NotImplementedError


class Message(Item):
    """Text for the user, with log-probabilities if they were asked for."""

    prefix, of = "msg", "output_text"

    def __init__(self, text: str = "", logprobs: Sequence[Fields] = ()) -> None:
        super().__init__(text)
        self._logprobs = [*logprobs]

    def add_logprobs(self, logprobs: Sequence[Fields]) -> list[Fields]:
        """Add log-probabilities; returns them in the form of a delta's event."""
        self._logprobs += logprobs
        return [
            {**_without_bytes(each), "top_logprobs": [*map(_without_bytes, each["top_logprobs"])]}
            for each in logprobs
        ]

    def part(self) -> Fields:
        text = self.text
        logprobs = self._logprobs or (None if text else [])
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}

    def told(self) -> Fields:
        return {"text": self.text, "logprobs": []}

    def shown(self, status: str) -> Fields:
        content = [self.part()] if self.text else []
        whole = {"id": self.id, "content": content, "role": "assistant", "status": status}
        return whole | {"type": "message", "phase": None}


class Refusal(Item):
    """The refusal that follows a text which breaks the request's schema."""

    prefix, of = "msg", "refusal"

    def part(self) -> Fields:
        return {"type": "refusal", "refusal": self.text}

    def told(self) -> Fields:
        return {"refusal": self.text}

    def shown(self, status: str) -> Fields:
        whole = {"id": self.id, "content": [self.part()], "role": "assistant", "status": status}
        return whole | {"type": "message", "phase": None}


class Reasoning(Item):
    """Thoughts."""

    prefix, of = "rs", "reasoning_text"

    def part(self) -> Fields:
        return {"text": self.text, "type": "reasoning_text"}

    def shown(self, status: str) -> Fields:
        content = [self.part()] if self.text else None
        whole = {"id": self.id, "summary": [], "type": "reasoning", "content": content}
        return whole | {"encrypted_content": None, "status": status}


class Call(Item):
    """A function call; `index` is its number in the answer."""

    prefix, of, place = "fc", "function_call_arguments", {}

    def __init__(self, index: int, call_id: str, name: str, arguments: str = "") -> None:
        super().__init__(arguments)
        self.index = index
        self._call_id = call_id
        self._name = name

    def told(self) -> Fields:
        return {"arguments": self.text, "name": self._name}

    def shown(self, status: str) -> Fields:
        whole = {"arguments": self.text, "call_id": self._call_id, "name": self._name}
        own = {"type": "function_call", "id": self.id, "status": status}
        return whole | own | dict.fromkeys(("async", "caller", "namespace"))


def _without_bytes(told: Fields) -> Fields:
    return {key: value for key, value in told.items() if key != "bytes"}


Opened = TypeVar("Opened", bound=Item)

_TOOL = dict.fromkeys(
    """allowed_callers async defer_loading description output_schema parameters strict""".split()
)
_REASONING = dict.fromkeys(("context", "effort", "generate_summary", "mode", "summary"))
_ABSENT = dict.fromkeys(
    """max_tool_calls previous_response_id prompt kv_transfer_params ec_transfer_params
    input_messages output_messages""".split()
)
"""Fields that are always null."""


class Response:
    """The response to one request.

    `fields` are the fields that stay the same until the end. `top_logprobs` is the number of likely
    tokens at each place; None for no log-probabilities.
    """

    def __init__(
        self, fields: Mapping[str, Any], names: TokenNames, top_logprobs: int | None = None
    ) -> None:
        self._fields = fields
        self._names = names
        self._top = top_logprobs

    @classmethod
    def of(
        cls,
        body: ResponseBody,
        conversation: Conversation,
        model: ServedModel,
        context: RequestContext,
    ) -> "Response":
        """The response to a request with this body and conversation, answered by `model`."""
        info, sampling = model.model, conversation.prepared.sampling
        room = info.max_model_len - conversation.prompt_tokens
        longest = min(filter(None, (room, sampling.max_tokens, info.most_new_tokens)))
        names = TokenNames(model.decode, as_ids=info.answers.tokens_as_ids)
        top = None if conversation.hides_tokens else body.logprobs
        return cls(_fields(body, sampling, longest, context), names, top)

    def shown(self, status: str, output: Sequence[Fields], usage: Usage | None) -> Fields:
        """The response as an object; `usage` is None until it has ended."""
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._fields,
            "status": status,
            "incomplete_details": reason,
            "output": output,
            "usage": None if usage is None else _usage(usage),
        }

    def logprobs(self, part: Part) -> list[Fields]:
        """The log-probabilities of a part's tokens, if they were asked for."""
        told = chat_logprobs(part, self._top, self._names)
        return [] if told is None else [*told["content"]]

    def whole(self, choice: Choice, usage: Usage) -> Fields:
        """The response for a complete answer."""
        said, items = choice.said, list[Item]()
        if said.reasoning:
            items.append(Reasoning(said.reasoning))
        if said.refusal is not None:
            items.append(Refusal(said.refusal))
        elif said.content:
            items.append(Message(said.content, self.logprobs(choice.part)))
        calls = enumerate(said.calls)
        items += [Call(index, call.id, call.name, call.arguments) for index, call in calls]
        output = [item.shown("completed") for item in items]
        return self.shown(_status(choice.finish_reason), output, usage)


class ResponseStream(NamedEvents):
    """Streams a response as numbered events.

    Set its `writer` before the conversation is streamed.
    """

    writer: Writer

    def __init__(self, response: Response) -> None:
        super().__init__()
        self._response = response
        self._usage = Usage()
        self._item: Item | None = None
        self._output: list[Fields] = []
        self._finish: str | None = None
        self.made = 0
        """Number of events so far, which is the number of the next one."""

    def begin(self, usage: Usage) -> None:
        """Write the events that begin the response."""
        self._usage = usage
        begun = self._response.shown("in_progress", [], None)
        self._event("response.created", response=begun)
        self._event("response.in_progress", response=begun)
        self._write_to(self.writer)

    def take(self, step: ChatStep) -> None:
        """Write more of the answer: its thoughts first, then its text, then its calls."""
        delta, item = step.delta or {}, self._item
        if thought := delta.get("reasoning"):
            item = item if isinstance(item, Reasoning) else self._open(Reasoning())
            self._say(item, thought)
        if text := delta.get("content"):
            item = item if isinstance(item, Message) else self._open(Message())
            told = item.add_logprobs(self._response.logprobs(step.part))
            self._say(item, text, logprobs=told)
        if refusal := delta.get("refusal"):
            self._say(self._open(Refusal()), refusal)
        for index, parts in groupby(delta.get("tool_calls") or (), lambda call: call["index"]):
            self._add_call(index, list(parts))
        self._finish = step.finish_reason or self._finish
        self._write_to(self.writer)

    def end(self) -> None:
        """Write the whole response."""
        self._close()
        status = _status(self._finish)
        ended = self._response.shown(status, self._output, self._usage)
        self._event(f"response.{status}", response=ended)
        self._write_to(self.writer)

    def _add_call(self, index: int, parts: Sequence[Mapping[str, Any]]) -> None:
        item = self._item
        if not isinstance(item, Call) or item.index != index:
            item = self._open(Call(index, parts[0]["id"], parts[0]["function"]["name"]))
        if arguments := "".join(part["function"].get("arguments") or "" for part in parts):
            self._say(item, arguments)

    def _say(self, item: Item, text: str, **told: Any) -> None:
        item.add(text)
        self._event(f"response.{item.of}.delta", **self._place(item), delta=text, **told)

    def _open(self, item: Opened) -> Opened:
        self._close()
        self._item = item
        begun = item.shown("in_progress")
        self._event("response.output_item.added", output_index=len(self._output), item=begun)
        if (part := item.part()) is not None:
            self._event("response.content_part.added", **self._place(item), part=part)
        return item

    def _close(self) -> None:
        if (item := self._item) is None:
            return
        self._item, place = None, self._place(item)
        self._event(f"response.{item.of}.done", **place, **item.told())
        if (part := item.part()) is not None:
            self._event("response.content_part.done", **place, part=part)
        done = item.shown("completed")
        self._event("response.output_item.done", output_index=len(self._output), item=done)
        self._output.append(done)

    def _place(self, item: Item) -> Fields:
        return {"item_id": item.id, "output_index": len(self._output), **item.place}

    def _event(self, name: str, /, **fields: Any) -> None:
        self._add(name, sequence_number=self.made, **fields)
        self.made += 1


def _fields(
    body: ResponseBody, sampling: Sampling, longest: int, context: RequestContext
) -> Fields:
    """Fields of the request that a response repeats, with defaults for those left out."""
    return {
        "id": f"resp_{context.request_id}",
        "created_at": int(time.time()),
        "model": context.model,
        "object": "response",
        "instructions": body.instructions,
        "metadata": body.metadata,
        "parallel_tool_calls": body.parallel_tool_calls,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.temperature else 1.0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "top_logprobs": body.logprobs,
        "tool_choice": body.tool_choice or "auto",
        "tools": [_TOOL | tool for tool in body.tools or ()],
        "max_output_tokens": longest,
        "reasoning": None if body.reasoning is None else _REASONING | body.reasoning,
        "text": None if body.text is None else {"format": _format(body), "verbosity": None},
        "service_tier": context.tier,
        "truncation": "disabled",
        "user": body.user,
        "background": False,
        "store": False,
        **_ABSENT,
    }


def _format(body: ResponseBody) -> Fields | None:
    if body.format is None:
        return None
    unset = ("description", "strict") if body.format["type"] == "json_schema" else ()
    return dict.fromkeys(unset) | {**body.format}


def _status(finish_reason: str | None) -> str:
    return "incomplete" if finish_reason == "length" else "completed"


def _usage(usage: Usage) -> Fields:
    """The usage of a response, in numbers alone: OpenAI's agents take no lists, as vLLM's."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.created_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens or 0,
            "tool_output_tokens": 0,
        },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
