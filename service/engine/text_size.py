"""Sizes of the texts and tokens of a request, in bytes of UTF-8."""

from collections.abc import Sequence

from service.engine.protocol import Message

_MESSAGE_BYTES = 32
"""Bytes of a message's role and of a template around its content."""

_TOKEN_BYTES = 4
"""Bytes of text that a token stands for, about."""


def size_of(text: str) -> int:
    """Bytes of a text."""
    return len(text.encode(errors="surrogatepass"))


def size_of_chat(messages: Sequence[Message]) -> int:
    """Bytes of a conversation."""
    return sum(_MESSAGE_BYTES + size_of(message.content) for message in messages)


def size_of_tokens(token_ids: Sequence[int]) -> int:
    """Bytes of the text of token ids, about."""
    return _TOKEN_BYTES * len(token_ids)
