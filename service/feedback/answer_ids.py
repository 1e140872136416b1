"""Ids of answers, signed by the service, so that it need not keep the answers."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from service.context import RequestContext
from service.errors import InvalidRequest, NotFound
from service.feedback.answer import RatedAnswer

DAY_SECONDS = 86_400
"""Time for which an answer may be rated."""

_SIGNATURE_BYTES = 16
_FORM = 2
"""Number of the form of ids; it is signed, so an id of another form is none."""


class AnswerIds:
    """Makes and reads ids; the tenant is in the signature alone.

    An id has two parts in base64url: the answer and the replica that gave it as JSON, and the first
    half of an HMAC-SHA256 (RFC 2104) of it and the tenant's name. So an id says nothing of the
    tenant, and that of another tenant is no id at all. Every replica with the key can read it.
    """

    def __init__(self, key: bytes, replica: str, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._replica = replica
        self._now = now

    def of(self, context: RequestContext) -> str | None:
        """The id of the answer that a request gets; None for an answer of no adapter."""
        answer = RatedAnswer.of(context, int(self._now()), secrets.token_hex(4))
        if answer is None:
            return None
        packed = [*answer.packed(), self._replica]
        body = _encoded(json.dumps(packed, separators=(",", ":")).encode())
        return f"{body}.{self._signature(body, context.tenant.name)}"

    def read(self, given: str, tenant: str) -> RatedAnswer:
        """The answer that has this id; one that another replica gave was judged by none here.

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
        *packed, replica = json.loads(_decoded(body))
        answer = RatedAnswer.unpacked(packed)
        if replica != self._replica:
            answer = replace(answer, stage=0)
        if self._now() - answer.time > DAY_SECONDS:
            raise too_old("the answer was given over a day ago")
        return answer

    def _signature(self, body: str, tenant: str) -> str:
        signed = f"{_FORM} {body} {tenant}".encode(errors="surrogatepass")
        return _encoded(hmac.digest(self._key, signed, hashlib.sha256)[:_SIGNATURE_BYTES])


def too_old(reason: str) -> InvalidRequest:
    """The refusal of an id whose time has passed."""
    return InvalidRequest(f"id: {reason}", code="answer_too_old", param="id")


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
