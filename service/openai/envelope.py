"""What all answers of OpenAI's chats and completions tell: names, usage, log-probabilities."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from pydantic_core import to_json

from service.context import RequestContext
from service.engine.contract import Likely, Part, TokenLogprobs
from service.engine.protocol import AnswerOptions
from service.engine.roles import LanguageModel
from service.openai.sampling import StreamOptions
from service.tenants.tenant import Tier

Event = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_LEAST_LOGPROB = -9999.0
"""The log-probability of what cannot be, which JSON has no infinity for."""


def named_tier(context: RequestContext) -> Tier | None:
    """The tier that the answer names; None where OpenAI's answers name none."""
    named = context.asked_tier is not None or context.tier is not Tier.DEFAULT
    return context.tier if named else None


def head_of(context: RequestContext, prefix: str, kind: str) -> Event:
    """The fields with which each event of an answer begins, or the answer."""
    return {
        "id": f"{prefix}{context.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": context.model,
    }


def event_of(body: Event, tier: Tier | None) -> bytes:
    """One server-sent event; a tier that is named stands first."""
    return b"data: " + to_json(body if tier is None else {"service_tier": tier, **body}) + b"\n\n"


_MARK = "\ue000text\ue001"
"""A text in the place of any other, of private characters that JSON does not escape."""


def text_frame(event: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    """What stands before and after the JSON of the text in an event that is made of a text."""
    before, after = event(_MARK).split(to_json(_MARK))
    return before, after


def usage_of(
    prompt: int,
    completion: int,
    options: AnswerOptions,
    cached: int | None = None,
    created: int | None = None,
    reasoning: int | None = None,
) -> Event:
    """The usage of an answer, with the details that its model tells; the others are null."""
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


def asked_usage(asked: StreamOptions | None, options: AnswerOptions) -> tuple[bool, bool]:
    """Whether a stream tells its usage at its end, and in every event; `asked` are its options."""
    if options.usage_always:
        return True, True
    asked = asked or {}
    told = asked.get("include_usage", False)
    return told, told and asked.get("continuous_usage_stats", False)


def without_nulls(value: Event) -> Event:
    """An object without the keys that are null, at every level."""
    return {
        key: without_nulls(each) if isinstance(each, dict) else each
        for key, each in value.items()
        if each is not None
    }


def told_logprob(logprob: float) -> float:
    """A log-probability as JSON can say it."""
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
    def asked(cls, model: LanguageModel, as_ids: bool | None) -> "TokenNames":
        """The names that a body asks for; None is as the operator has it."""
        usual = model.model.answers.tokens_as_ids
        return cls(model.decode, as_ids=usual if as_ids is None else as_ids)

    def of(self, token_id: int, known: Likely | None = None) -> str:
        """The name of a token."""
        if self._as_ids:
            return f"token_id:{token_id}"
        if known is not None and known.decoded_token is not None:
            return known.decoded_token
        return self._decode([token_id])


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


def completion_logprobs(
    token_ids: Sequence[int],
    places: Sequence[TokenLogprobs | None],
    top: int,
    names: TokenNames,
    offset: int = 0,
) -> dict[str, Any]:
    """The `logprobs` of a completion's tokens, whose text begins at an `offset` in characters."""
    offsets, logprobs = list[int](), list[float | None]()
    tokens, alternatives = list[str](), list[dict[str, float] | None]()
    for token_id, place in zip(token_ids, places, strict=False):
        offsets.append(offset)
        if place is None:
            name = names.of(token_id)
            logprobs.append(None)
            alternatives.append(None)
        else:
            known = place[token_id]
            name = names.of(token_id, known)
            logprobs.append(told_logprob(known.logprob))
            # OpenAI tells the token's own beside the most likely ones.
            alternatives.append(
                {
                    names.of(each_id, each): told_logprob(each.logprob)
                    for each_id, each in islice(place.items(), top + 1)
                }
            )
        tokens.append(name)
        offset += len(name)
    return {
        "text_offset": offsets,
        "token_logprobs": logprobs,
        "tokens": tokens,
        "top_logprobs": alternatives,
    }
