"""A tenant's key: 32 random bytes as text, of which only the hash is ever stored."""

import hashlib
import secrets

PREFIX = "sk-"
_RANDOM_BYTES = 32
_MAX_CHARS = 128


def new_key() -> str:
    """A new random key; its 256 bits need no salt and no slow hash."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def key_digest(key: str) -> bytes | None:
    """The sha256 of a key as received; None for text too long to be a key."""
    return hashlib.sha256(key.encode()).digest() if len(key) <= _MAX_CHARS else None


def key_id(sha256: str) -> str:
    """Name of a key that must not be shown: the first digits of its hash."""
    return sha256[:12]
