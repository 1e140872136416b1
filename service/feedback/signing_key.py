"""Keys that sign the ids of answers: one that replicas share, or a replica's own."""

import hashlib
import hmac
import secrets
from pathlib import Path

from service.errors import ConfigurationError
from service.files import write_atomically
from service.settings.feedback import FeedbackSettings

FILE = "feedback.key"
_KEY_BYTES = 32
_MOST_BYTES = 4096


def shared_key(settings: FeedbackSettings) -> bytes | None:
    """The key of all replicas; None if none is set.

    Raises ConfigurationError for a file that cannot be read, or that holds too little or too much.
    """
    if settings.key is not None:
        return settings.key.get_secret_value().encode(errors="surrogatepass")
    if (path := settings.key_file) is None:
        return None
    try:
        with path.open("rb") as file:
            key = file.read(_MOST_BYTES + 3).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError(f"feedback.key_file: {path}: {error.strerror}") from error
    if not _KEY_BYTES <= len(key) <= _MOST_BYTES:
        raise ConfigurationError(
            f"feedback.key_file: {path}: {_KEY_BYTES} to {_MOST_BYTES} bytes without the line's "
            f"end, got {'more' if len(key) > _MOST_BYTES else len(key)}"
        )
    return key


def kept_key(folder: Path | None) -> bytes:
    """The replica's own key in a folder, made at the first start; a new one without a folder.

    Raises ConfigurationError for a key that cannot be read, written or used.
    """
    if folder is None:
        return secrets.token_bytes(_KEY_BYTES)
    file = folder / FILE
    try:
        if not file.exists():
            write_atomically(file, secrets.token_bytes(_KEY_BYTES), mode=0o600)
        key = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"releases.path: {file}: {error.strerror}") from error
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(
            f"releases.path: {file}: a key of {_KEY_BYTES} bytes, got {len(key)}; remove the file, "
            "and answers given before can no longer be rated"
        )
    return key


def replica_mark(kept: bytes) -> str:
    """A name of the replica that has this key of its own, which tells nothing of the key."""
    return hmac.digest(kept, b"replica", hashlib.sha256)[:4].hex()
