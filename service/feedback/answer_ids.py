"""Ids of answers, signed by the service, so that it need not keep the answers."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from service.context import RequestContext
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.feedback.answer import RatedAnswer
from service.files import write_atomically

FILE = "feedback.key"
DAY_SECONDS = 86_400
"""Time for which an answer may be rated."""

_KEY_BYTES = 32
_SIGNATURE_BYTES = 16


class AnswerIds:
    """Makes and reads ids; the tenant is in the signature alone.

    An id has two parts in base64url: the answer as JSON, and the first half of an HMAC-SHA256
    (RFC 2104) of it and the tenant's name. So an id says nothing of the tenant, and that of another
    tenant is no id at all.
    """

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def of(self, context: RequestContext) -> str | None:
        """The id of the answer that a request gets; None for an answer of no adapter."""
        answer = RatedAnswer.of(context, int(self._now()), secrets.token_hex(4))
        if answer is None:
            return None
        body = _encoded(json.dumps(answer.packed(), separators=(",", ":")).encode())
        return f"{body}.{self._signature(body, context.tenant.name)}"

    def read(self, given: str, tenant: str) -> RatedAnswer:
        """The answer that has this id.

        Raises NotFound for an id that is none of this service's to this tenant, InvalidRequest for
        an answer of more than a day ago.
        """
        body, _, signature = given.partition(".")
        expected = self._signature(body, tenant).encode()
        if not hmac.compare_digest(signature.encode(errors="surrogatepass"), expected):
            raise NotFound(
                "id: not the X-Feedback-Id of an answer that this service gave to this caller",
                code="answer_not_found",
                param="id",
            )
        answer = RatedAnswer.unpacked(json.loads(_decoded(body)))
        if self._now() - answer.time > DAY_SECONDS:
            raise too_old("the answer was given over a day ago")
        return answer

    def _signature(self, body: str, tenant: str) -> str:
        signed = f"{body} {tenant}".encode(errors="surrogatepass")
        return _encoded(hmac.digest(self._key, signed, hashlib.sha256)[:_SIGNATURE_BYTES])


def too_old(reason: str) -> InvalidRequest:
    """The refusal of an id whose time has passed."""
    return InvalidRequest(f"id: {reason}", code="answer_too_old", param="id")


def kept_key(folder: Path | None) -> bytes:
    """The key in a folder, made at the first start; a new one without a folder.

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


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
