"""The kinds of load for both servers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadtests.peers import MODEL

LABELS = ["positive", "negative"]
TEMPLATE = "Review:{input}\nSentiment:"
TEXT = (
    " The lighthouse keeper of part {} said that the new lamp was brighter, the boat late again "
    "and the soup his neighbour brought good."
)
BATCH = 32
_MANY = 256
_SATURATING = 64
_FIRST_RATE = 60
"""Tokens/s of a stream, where the search for the highest begins."""
_STEPS = 100
"""Steps/s of the engine for answers that come at once. An engine without a pause would answer each
request in a step of its own, as none with a model does."""
PROMPT = TEXT.format("one")
_SENTENCES = 30
"""Sentences of a system prompt of some 4,000 characters, which all requests share."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A route and a body for it."""

    path: str
    body: dict[str, Any]

    def request(self, key: str) -> bytes:
        """The bytes of the HTTP request."""
        body = json.dumps(self.body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load: the requests to this service and the equal ones to vLLM's server."""

    name: str
    ours: Ask
    theirs: Ask
    tokens: int
    """Tokens that the engine makes for a request."""

    streams: int
    requests: int
    """Requests of each stream."""

    rate: float | None
    """Tokens per second of each stream; None for an engine that never waits."""

    streamed: bool = True
    search: bool = False
    """True if `rate` starts a search for the highest rate with an event for nearly every token."""

    def short(self) -> "Case":
        """The same case with fewer streams, for warming up."""
        return replace(self, streams=min(self.streams, 8), requests=1, search=False)


KINDS = (
    *("chat", "completion", "generate"),
    *("whole chat", "whole completion", "one token", "system prompt", "read", "read batch"),
)
_WHOLE = {
    "whole chat": (32, 8),
    "whole completion": (32, 8),
    "one token": (32, 32),
    "system prompt": (32, 24),
    "read": (32, 24),
    "read batch": (4, 12),
}
"""Kinds of answers that come at once: connections, and requests of each, which are about a second
of the API process."""


def cases(
    levels: Sequence[int], rate: float, tokens: int, kinds: Sequence[str], *, saturated: bool = True
) -> Iterator[Case]:
    """The cases of these kinds; streamed ones at each number of streams, and at saturation."""
    asks = _asks(tokens)
    for name in kinds:
        ours, theirs, made = asks[name]
        if name in _WHOLE:
            yield Case(name, ours, theirs, made, *_WHOLE[name], _STEPS, streamed=False)
            continue
        for streams in levels:
            requests = 2 if streams < _MANY else 1
            yield Case(name, ours, theirs, made, streams, requests, rate)
        if saturated:
            most = f"{name}, saturated"
            yield Case(most, ours, theirs, made, _SATURATING, 3, _FIRST_RATE, search=True)


def _asks(tokens: int) -> dict[str, tuple[Ask, Ask, int]]:
    common = {"model": MODEL, "max_tokens": tokens, "stream": True}
    chat = Ask("/v1/chat/completions", common | {"messages": [{"role": "user", "content": PROMPT}]})
    completion = Ask("/v1/completions", common | {"prompt": PROMPT})
    generate = Ask("/v1/generate", common | {"prompt": PROMPT})
    whole_chat = Ask("/v1/chat/completions", chat.body | {"stream": False})
    whole = Ask("/v1/completions", completion.body | {"stream": False})
    one = Ask("/v1/completions", whole.body | {"max_tokens": 1})
    system = {"role": "system", "content": "".join(map(TEXT.format, range(_SENTENCES)))}
    asked = {"messages": [system, *chat.body["messages"]], "max_tokens": 1}
    after_system = Ask("/v1/chat/completions", whole_chat.body | asked)
    texts = [TEXT.format(number) for number in range(BATCH)]
    return {
        "chat": (chat, chat, tokens),
        "completion": (completion, completion, tokens),
        "generate": (generate, completion, tokens),
        "whole chat": (whole_chat, whole_chat, tokens),
        "whole completion": (whole, whole, tokens),
        "one token": (one, one, 1),
        "system prompt": (after_system, after_system, 1),
        "read": (_classify(texts[:1]), _logprobs(texts[:1]), 1),
        "read batch": (_classify(texts), _logprobs(texts), BATCH),
    }


def _classify(texts: Sequence[str]) -> Ask:
    return Ask(
        "/v1/classify",
        {"model": MODEL, "input": texts, "candidate_labels": LABELS, "template": TEMPLATE},
    )


def _logprobs(texts: Sequence[str]) -> Ask:
    prompts = [TEMPLATE.replace("{input}", text) for text in texts]
    return Ask(
        "/v1/completions", {"model": MODEL, "prompt": prompts, "max_tokens": 1, "logprobs": 5}
    )
