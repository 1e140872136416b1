"""Fields that answers of chats and completions share: names, usage, log-probabilities."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from pydantic_core import to_json

from service.context import RequestContext
from service.engine.contract import AnswerOptions, Likely, Part, TokenLogprobs
from service.engine.texts import Writer
from service.generation.served_model import ServedModel
from service.openai.sampling import GenerationBody
from service.tenants.tenant import Tier

Event = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_LEAST_LOGPROB = -9999.0
"""Stands for a log-probability of minus infinity, which JSON cannot hold."""


def named_tier(context: RequestContext) -> Tier | None:
    """The tier that the answer states: one that was asked for or is not the default, else None."""
    named = context.asked_tier is not None or context.tier is not Tier.DEFAULT
    return context.tier if named else None


def head_of(context: RequestContext, prefix: str, kind: str) -> Event:
    """The fields that come first in an answer, or in each event of a streamed one."""
    return {
        "id": f"{prefix}{context.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": context.model,
    }


def event_of(body: Event, tier: Tier | None) -> bytes:
    """One server-sent event; `service_tier` comes first if there is a tier."""
    return b"data: " + to_json(body if tier is None else {"service_tier": tier, **body}) + b"\n\n"


_MARK = "\ue000text\ue001"
"""Placeholder for the text of an event, of private-use characters that JSON does not escape."""


def usage_of(
    prompt: int,
    completion: int,
    options: AnswerOptions,
    cached: int | None = None,
    created: int | None = None,
    reasoning: int | None = None,
) -> Event:
    """The usage of an answer, with the details that its model reports; the others are null."""
    details = None
    if options.cached_tokens and cached is not None:
        details = {
            "cached_tokens": cached,
            "created_cache_tokens": created,
            "multimodal_tokens": None,
        }
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": None if reasoning is None else {"reasoning_tokens": reasoning},
    }


def without_nulls(value: Event) -> Event:
    """An object without the keys that are null, at every level."""
    return {
        key: without_nulls(each) if isinstance(each, dict) else each
        for key, each in value.items()
        if each is not None
    }


def told_logprob(logprob: float) -> float:
    """A log-probability that JSON can hold: at least -9999."""
    return max(logprob, _LEAST_LOGPROB)


def told_prompt_logprobs(found: Sequence[TokenLogprobs | None] | None) -> list[Any] | None:
    """Log-probabilities of a prompt's tokens, in vLLM's form."""
    if found is None:
        return None
    return [
        None
        if place is None
        else {
            str(token_id): {
                "logprob": told_logprob(each.logprob),
                "rank": getattr(each, "rank", None),
                "decoded_token": each.decoded_token,
            }
            for token_id, each in place.items()
        }
        for place in found
    ]


Decode = Callable[[Sequence[int]], str]


class TokenNames:
    """Names tokens by their text, or by their id where that was asked for."""

    def __init__(self, decode: Decode, *, as_ids: bool) -> None:
        self._decode = decode
        self._as_ids = as_ids

    @classmethod
    def asked(cls, model: ServedModel, as_ids: bool | None) -> "TokenNames":
        """The names that a body asks for; None takes the operator's setting."""
        usual = model.model.answers.tokens_as_ids
        return cls(model.decode, as_ids=usual if as_ids is None else as_ids)

    def of(self, token_id: int, known: Likely | None = None) -> str:
        """The name of a token."""
        if self._as_ids:
            return f"token_id:{token_id}"
        if known is not None and known.decoded_token is not None:
            return known.decoded_token
        return self._decode([token_id])


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer contains beside its text, by the request's body.

    `logprobs` is the number of likely tokens at each place; None for no log-probabilities. `usage`
    is sent at the end of a stream, with `usage_always` in each of its events. With `echo` an answer
    begins with its prompt, and with `echo_alone` it has nothing else.
    """

    options: AnswerOptions
    names: TokenNames
    logprobs: int | None
    token_ids: bool
    usage: bool
    usage_always: bool
    prompt_text: str | None = None
    echo: bool = False
    echo_alone: bool = False

    @classmethod
    def of(cls, body: GenerationBody, model: ServedModel, **own: Any) -> Self:
        """What a body asks for; `own` are the fields of its API alone."""
        options, asked = model.model.answers, body.stream_options or {}
        usage = options.usage_always or asked.get("include_usage", False)
        always = options.usage_always or asked.get("continuous_usage_stats", False)
        names = TokenNames.asked(model, body.return_tokens_as_token_ids)
        token_ids = bool(body.return_token_ids)
        return cls(options, names, body.likely, token_ids, usage, usage and always, **own)

    @property
    def details(self) -> bool:
        """True if the answer contains more than its text."""
        return self.logprobs is not None or self.token_ids or self.usage_always or self.echo

    def ids(self, token_ids: Sequence[int]) -> list[int] | None:
        """The token ids, if the answer contains them."""
        return list(token_ids) if self.token_ids else None


def whole_answer(
    head: Event, told: Told, tier: Tier | None, choices: Sequence[Event], usage: Event, **own: Any
) -> bytes:
    """The JSON of a whole answer; `own` are the fields of its API alone."""
    return to_json(
        {
            **head,
            "choices": choices,
            "service_tier": tier,
            "system_fingerprint": told.options.fingerprint,
            "usage": usage,
            **own,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


class Chunks:
    """Writes the events of a stream of `answers`.

    The last text goes with the end, in one part: a client is woken once for both.
    """

    def __init__(
        self, head: Event, told: Told, context: RequestContext, writer: Writer, answers: int
    ) -> None:
        self._head = head
        self._told = told
        self._tier = named_tier(context)
        self._writer = writer
        self._answers = answers
        self._ended = 0
        self._pending: list[bytes] = []
        self._frame: tuple[bytes, bytes] | None = None

    def _event(self, choice: Event, more: Event) -> bytes:
        """The event of a choice; the last one has the fingerprint, unless a usage event follows."""
        fingerprint = self._told.options.fingerprint
        if choice["finish_reason"] is not None and fingerprint and not self._told.usage:
            more["system_fingerprint"] = fingerprint
        return event_of({**self._head, "choices": [choice], **more}, self._tier)

    def _text_event(self, text: str) -> bytes:
        """The event of a text, from a template: such events differ in their text alone."""
        if self._frame is None:
            before, after = self._made_of_text(_MARK).split(to_json(_MARK))
            self._frame = before, after
        return self._frame[0] + to_json(text) + self._frame[1]

    def _made_of_text(self, text: str) -> bytes:
        raise NotImplementedError

    def _write(self, event: bytes) -> None:
        """Write an event; once all answers have ended, keep it, to be written with the end."""
        self._pending.append(event)
        if self._ended < self._answers:
            self._flush()

    def _end(self, usage: Event | None) -> None:
        """Write the usage, if it is asked for, and the end."""
        if usage is not None:
            fingerprint = self._told.options.fingerprint
            last: Event = {"choices": [], "usage": usage, "system_fingerprint": fingerprint}
            self._pending.append(event_of(without_nulls(self._head | last), self._tier))
        self._pending.append(DONE)
        self._flush()

    def _flush(self) -> None:
        parts, self._pending = self._pending, []
        self._writer.write(b"".join(parts))


class NamedEvents:
    """Writes events that are named by their `type`; the events of one step are written together."""

    def __init__(self) -> None:
        self._events: list[bytes] = []

    def _add(self, name: str, /, **fields: Any) -> None:
        data = to_json({"type": name, **fields})
        self._events.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))

    def _write_to(self, writer: Writer) -> None:
        if self._events:
            writer.write(b"".join(self._events))
            self._events.clear()


def chat_logprobs(part: Part, top: int, names: TokenNames) -> dict[str, Any]:
    """The `logprobs` of a chat's part, with the `top` most likely tokens at each place."""
    places = part.logprobs or ()
    return {
        "content": [
            _chat_place(token_id, places[number], top, names)
            for number, token_id in enumerate(part.token_ids)
        ]
    }


def _chat_place(
    token_id: int, place: TokenLogprobs | None, top: int, names: TokenNames
) -> dict[str, Any]:
    known = None if place is None else place.get(token_id)
    if place is None or known is None:
        name = names.of(token_id)
        return {
            "token": name,
            "logprob": told_logprob(-1e9),
            "bytes": _bytes(name),
            "top_logprobs": [],
        }
    decoded = known.decoded_token
    return {
        "token": names.of(token_id, known),
        "logprob": told_logprob(known.logprob),
        "bytes": None if decoded is None else _bytes(decoded),
        "top_logprobs": [
            {
                "token": (name := names.of(each_id, each)),
                "logprob": told_logprob(each.logprob),
                "bytes": _bytes(name),
            }
            for each_id, each in islice(place.items(), top)
        ],
    }


def _bytes(text: str) -> list[int]:
    return list(text.encode(errors="replace"))
