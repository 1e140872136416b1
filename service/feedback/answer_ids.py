"""Ids of answers, encrypted by the service, so that it need not keep the answers; and their key."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.context import RequestContext
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.feedback.answer import RatedAnswer
from service.files import write_atomically
from service.settings.feedback import FeedbackSettings

FILE = "feedback.key"
DAY_SECONDS = 86_400
"""Time for which an answer may be rated."""

_KEY_BYTES = 32
_MOST_BYTES = 4096
_SALT_BYTES = _NONCE_BYTES = 12
_MARK_BYTES = 4


class AnswerIds:
    """Makes and reads ids, which only replicas with the key can read, for one tenant each.

    An id is, in base64url, random bytes and the answer with the replica that gave it, encrypted
    and authenticated together with the tenant's name by AES-256-GCM. All ids of an adapter have one
    length. So an id tells nothing, and that of another tenant is no id at all.

    Each id has a key of its own, derived from the service's by HMAC-SHA256 and the first half of
    the random bytes; the other half is the nonce. So replicas may share a key for ever: 2^80 ids
    are made before two would share both (as with the 192 bits of XChaCha20 or XAES-256-GCM).
    """

    def __init__(self, key: bytes, replica: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._replica = replica
        self._now = now

    def of(self, context: RequestContext) -> str | None:
        """The id of the answer that a request gets; None for an answer of no adapter."""
        random = secrets.token_bytes(_SALT_BYTES + _NONCE_BYTES)
        answer = RatedAnswer.of(context, int(self._now()), random[:4].hex())
        if answer is None:
            return None
        cipher, nonce = self._cipher(random)
        tenant = context.tenant.name.encode()
        sealed = cipher.encrypt(nonce, self._replica + answer.packed(), tenant)
        return _encoded(random + sealed)

    def read(self, given: str, tenant: str) -> RatedAnswer:
        """The answer that has this id; one that another replica gave was judged by none here.

        Raises NotFound for an id that is none of this service's to this tenant, InvalidRequest for
        an answer of more than a day ago.
        """
        try:
            content = _decoded(given)
            cipher, nonce = self._cipher(content)
            sealed = content[_SALT_BYTES + _NONCE_BYTES :]
            packed = cipher.decrypt(nonce, sealed, tenant.encode())
            answer = RatedAnswer.unpacked(packed[_MARK_BYTES:])
        except (InvalidTag, ValueError):
            raise NotFound(
                "id: not the X-Feedback-Id of an answer that this service gave to this caller",
                code="answer_not_found",
                param="id",
            ) from None
        if packed[:_MARK_BYTES] != self._replica:
            answer = replace(answer, stage=0)
        if self._now() - answer.time > DAY_SECONDS:
            raise too_old("the answer was given over a day ago")
        return answer

    def _cipher(self, random: bytes) -> tuple[AESGCM, bytes]:
        """The cipher and the nonce of an id that begins with these random bytes."""
        key = hmac.digest(self._key, b"id" + random[:_SALT_BYTES], hashlib.sha256)
        return AESGCM(key), random[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """The content of a text; raises ValueError for one that `_encoded` does not make."""
    content = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    if _encoded(content) != text:
        raise ValueError
    return content


def too_old(reason: str) -> InvalidRequest:
    """The refusal of an id whose time has passed."""
    return InvalidRequest(f"id: {reason}", code="answer_too_old", param="id")


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


def replica_mark(kept: bytes) -> bytes:
    """A name of the replica that has this key of its own, which tells nothing of the key."""
    return hmac.digest(kept, b"replica", hashlib.sha256)[:_MARK_BYTES]
