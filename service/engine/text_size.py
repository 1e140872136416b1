"""The size of what is read for a request, in bytes of UTF-8."""

from collections.abc import Sequence

from service.engine.protocol import Message

_MESSAGE_BYTES = 32
"""Bytes of a message's role and of a template around its content."""


def size_of(text: str) -> int:
    """Bytes of a text."""
    return len(text.encode(errors="surrogatepass"))


def size_of_chat(messages: Sequence[Message]) -> int:
    """Bytes of a conversation."""
    return sum(_MESSAGE_BYTES + size_of(message.content) for message in messages)
