"""What all answers of OpenAI's chats and completions have: names, usage and the service tier."""

import time
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from service.context import RequestContext
from service.engine.contract import TokenLogprobs
from service.engine.protocol import AnswerOptions
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
