"""Log-probabilities of tokens in OpenAI's two forms: of chats and of completions."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from service.engine.contract import Likely, Part, TokenLogprobs
from service.openai.envelope import told_logprob

Decode = Callable[[Sequence[int]], str]


class TokenNames:
    """Names tokens by their text, or by their id where that was asked for."""

    def __init__(self, decode: Decode, *, as_ids: bool) -> None:
        self._decode = decode
        self._as_ids = as_ids

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
