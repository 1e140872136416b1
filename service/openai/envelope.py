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
from service.generation.conversation import Usage
from service.generation.served_model import ServedModel
from service.openai.sampling import GenerationBody
from service.tenants.tenant import Tier

Event = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_LEAST_LOGPROB = -9999.0
"""Stands for a log-probability of minus infinity, which JSON cannot hold."""


def named_tier(context: RequestContext) -> Tier | None:
    """The tier that the answer states: if it was asked for or is not the default, else None."""
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


def usage_of(usage: Usage, options: AnswerOptions) -> Event:
    """The usage of an answer, with the details that its model reports; the others are null."""
    details = None
    if options.cached_tokens:
        details = {
            "cached_tokens": usage.cached_tokens,
            "created_cache_tokens": usage.created_tokens,
            "multimodal_tokens": None,
        }
    reasoning = usage.reasoning_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
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
    """A log-probability that JSON can represent: at least -9999."""
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
    """Names tokens by their text, or by their id if the request asks for ids."""

    def __init__(self, decode: Decode, *, as_ids: bool) -> None:
        self._decode = decode
        self._as_ids = as_ids

    @classmethod
    def asked(cls, model: ServedModel, as_ids: bool | None) -> "TokenNames":
        """The names that a body asks for; if it does not say, the operator's setting applies."""
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
    """What an answer contains beside its text, as its request asks.

    `logprobs` is the number of likely tokens at each place; None for no log-probabilities. `usage`
    is sent at the end of a stream, and with `usage_always` in every event. With `echo` an answer
    begins with its prompt, and with `echo_alone` it has nothing else.
    """

    options: AnswerOptions
    names: TokenNames
    logprobs: int | None
    token_ids: bool
    usage: bool
    usage_always: bool
    prompt_text: str | None = None
    prompt_ids: Sequence[int] | None = None
    echo: bool = False
    echo_alone: bool = False

    @classmethod
    def of(cls, body: GenerationBody, model: ServedModel, **own: Any) -> Self:
        """The extras that a body asks for; `own` are the fields of its API alone."""
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
    head: Event,
    told: Told,
    context: RequestContext,
    choices: Sequence[Event],
    usage: Usage,
    **own: Any,
) -> bytes:
    """The JSON of a whole answer; `own` are the fields of its API alone."""
    return to_json(
        {
            **head,
            "choices": choices,
            "service_tier": named_tier(context),
            "system_fingerprint": told.options.fingerprint,
            "usage": usage_of(usage, told.options),
            **own,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


class Chunks:
    """Writes the events of a stream of `answers`.

    `text_choice` makes a choice that is only text. The last text is sent together with the end, so
    the client is woken once for both.
    """

    def __init__(
        self,
        head: Event,
        told: Told,
        context: RequestContext,
        writer: Writer,
        answers: int,
        text_choice: Callable[[str], Event],
    ) -> None:
        self._head = head
        self._told = told
        self._tier = named_tier(context)
        self._writer = writer
        self._open = answers
        self._pending: list[bytes] = []
        self._text_choice = text_choice
        self._frame: tuple[bytes, bytes] | None = None

    def hold(self, choice: Event, more: Event) -> None:
        """Keep the event of a choice, to be written with the next one."""
        self._pending.append(self._event(choice, more))

    def write(self, choice: Event, more: Event) -> None:
        """Write the event of a choice, or hold it for the end if all answers have ended."""
        self._open -= choice["finish_reason"] is not None
        self._write(self._event(choice, more))

    def write_text(self, text: str) -> None:
        """Write the event of a text from a template: such events differ only in their text."""
        if self._frame is None:
            before, after = self._event(self._text_choice(_MARK), {}).split(to_json(_MARK))
            self._frame = before, after
        self._write(self._frame[0] + to_json(text) + self._frame[1])

    def end(self, usage: Usage) -> None:
        """Write the usage, if it is asked for, and the end."""
        options = self._told.options
        if self._told.usage:
            last: Event = {
                "choices": [],
                "usage": usage_of(usage, options),
                "system_fingerprint": options.fingerprint,
            }
            self._pending.append(event_of(without_nulls(self._head | last), self._tier))
        self._pending.append(DONE)
        self._flush()

    def _event(self, choice: Event, more: Event) -> bytes:
        """The event of a choice; the last one has the fingerprint, unless a usage event follows."""
        fingerprint = self._told.options.fingerprint
        if choice["finish_reason"] is not None and fingerprint and not self._told.usage:
            more["system_fingerprint"] = fingerprint
        return event_of({**self._head, "choices": [choice], **more}, self._tier)

    def _write(self, event: bytes) -> None:
        self._pending.append(event)
        if self._open:
            self._flush()

    def _flush(self) -> None:
        parts, self._pending = self._pending, []
        self._writer.write(b"".join(parts))


def chat_logprobs(part: Part, top: int | None, names: TokenNames) -> dict[str, Any] | None:
    """The `logprobs` of a chat's part, with the `top` most likely tokens at each place.

    None if no log-probabilities were asked for.
    """
    if top is None:
        return None
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
        return {"token": name, "logprob": _LEAST_LOGPROB, "bytes": _bytes(name), "top_logprobs": []}
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
