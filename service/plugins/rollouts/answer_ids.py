"""Encrypted answer ids, which carry what feedback needs, so that answers need not be stored."""

import base64
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.common.files import write_atomically
from service.context import RequestContext
from service.context.answer import Answer
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.plugins.rollouts.settings import FeedbackSettings
from service.plugins.rollouts.standing import Drawn

_FORM = 3
"""Number of the format that `packed` writes."""
_FIELDS = struct.Struct(">B6sII4sBHHdd32s64s")
_TOLD, _ABSTAINED, _SET = 1, 2, 4
_SCORES = 10_000


@dataclass(frozen=True, slots=True)
class ToldSet:
    """A conformal label set: its members, the promised coverage, and the level that was used."""

    members: frozenset[int]
    coverage: float
    level: float


@dataclass(frozen=True, slots=True)
class ToldLabel:
    """The answer about the first text of a classifier whose labels exclude each other.

    Labels are indices into the adapter's list. `label_set` is None without a conformal calibration.
    """

    best: int
    score: float
    abstained: bool
    label_set: ToldSet | None


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """The version that answered, the time (seconds since 1970), and what the answer said.

    `stage` is the number of the log entry that began the stage which judged the answer; 0 for no
    stage. `told` is None for generated text, for several labels, and for answers whose headers were
    sent before the first text was classified. `nonce` distinguishes answers of the same second.
    """

    adapter: str
    version: str
    digest: str
    stage: int
    time: int
    told: ToldLabel | None
    nonce: str

    @classmethod
    def of(cls, context: RequestContext, time: int, nonce: str) -> "RatedAnswer | None":
        """The answer of a request as far as it is known; None if no adapter answered."""
        if context.adapter is None:
            return None
        name, _, digest = context.adapter.engine_name.rpartition("@")
        step, told = context.extension(Drawn), _told(context)
        since = 0 if step is None else step.since
        return cls(name, context.adapter.version, digest, since, time, told, nonce)

    @property
    def engine_name(self) -> str:
        """The version's name in the engine, which no other version has."""
        return f"{self.adapter}@{self.digest}"

    def packed(self) -> bytes:
        """The answer as bytes; their number depends on the adapter's name alone."""
        told, flags, mask, coverage, level = self.told, 0, 0, 0.0, 0.0
        if told is not None:
            flags = _TOLD | (_ABSTAINED if told.abstained else 0)
            if (members := told.label_set) is not None:
                flags |= _SET
                coverage, level = members.coverage, members.level
                mask = sum(1 << place for place in members.members)
        fields = _FIELDS.pack(
            _FORM,
            bytes.fromhex(self.digest),
            self.stage,
            self.time,
            bytes.fromhex(self.nonce),
            flags,
            0 if told is None else told.best,
            0 if told is None else round(told.score * _SCORES),
            coverage,
            level,
            mask.to_bytes(32),
            self.version.encode(),
        )
        return fields + self.adapter.encode()

    @classmethod
    def unpacked(cls, packed: bytes) -> "RatedAnswer":
        """The answer that `packed` wrote; raises ValueError for another format."""
        fields = _FIELDS.unpack_from(packed)
        form, digest, stage, time, nonce, flags, best, score, coverage, level, mask, name = fields
        if form != _FORM:
            raise ValueError
        told = None
        if flags & _TOLD:
            bits = int.from_bytes(mask)
            members = frozenset(place for place in range(bits.bit_length()) if bits >> place & 1)
            label_set = ToldSet(members, coverage, level) if flags & _SET else None
            told = ToldLabel(best, score / _SCORES, bool(flags & _ABSTAINED), label_set)
        adapter, number = packed[_FIELDS.size :].decode(), name.rstrip(b"\0").decode()
        return cls(adapter, number, digest.hex(), stage, time, told, nonce.hex())


def _told(context: RequestContext) -> ToldLabel | None:
    answer = context.extension(Answer)
    text = None if answer is None else answer.first_text
    if text is None or text.best is None:
        return None
    label_set = None
    if text.label_set is not None and (sets := text.conformal) is not None:
        label_set = ToldSet(frozenset(text.label_set), sets.coverage, sets.level)
    return ToldLabel(text.best, round(text.score, 4), not text.labels, label_set)


FILE = "feedback.key"
DAY_SECONDS = 86_400
"""Time for which an answer may be rated."""

KEY_BYTES = 32
"""Bytes of a key that the service makes, and the least of one that is set."""
_MOST_BYTES = 4096
_SALT_BYTES = _NONCE_BYTES = 12
_MARK_BYTES = 4


class AnswerIds:
    """Makes and reads ids of answers; only replicas with the key can read them.

    An id is, in base64url, random bytes, then the answer and the replica that gave it, encrypted
    and authenticated together with the tenant's name by AES-256-GCM. All ids of an adapter have the
    same length. So an id reveals nothing, and is valid for one tenant only.

    Each id has a key of its own, derived from the service's key by HMAC-SHA256 and the first half
    of the random bytes; the other half is the nonce. So replicas may share a key forever: it takes
    about 2^80 ids until two of them have the same derived key and nonce (as with the 192 bits of
    XChaCha20 or XAES-256-GCM).
    """

    def __init__(self, key: bytes, replica: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._replica = replica
        self._now = now

    def of(self, context: RequestContext) -> str | None:
        """The id for a request's answer; None if no adapter answered."""
        random = secrets.token_bytes(_SALT_BYTES + _NONCE_BYTES)
        answer = RatedAnswer.of(context, int(self._now()), random[:4].hex())
        if answer is None:
            return None
        cipher, nonce = self._cipher(random)
        tenant = context.tenant.name.encode()
        sealed = cipher.encrypt(nonce, self._replica + answer.packed(), tenant)
        return _encoded(random + sealed)

    def read(self, given: str, tenant: str) -> RatedAnswer:
        """The answer with this id; `stage` is 0 if another replica gave the answer.

        Raises NotFound for an id that this service did not give to this tenant, InvalidRequest for
        an answer that is over a day old.
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
    """The refusal of an id that can no longer be rated."""
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
    if not KEY_BYTES <= len(key) <= _MOST_BYTES:
        raise ConfigurationError(
            f"feedback.key_file: {path}: {KEY_BYTES} to {_MOST_BYTES} bytes without the line's "
            f"end, got {'more' if len(key) > _MOST_BYTES else len(key)}"
        )
    return key


def kept_key(folder: Path | None) -> bytes:
    """The replica's own key, stored in a folder; without a folder a new key at each start.

    Raises ConfigurationError for a key that cannot be read, written or used.
    """
    if folder is None:
        return secrets.token_bytes(KEY_BYTES)
    file = folder / FILE
    try:
        if not file.exists():
            write_atomically(file, secrets.token_bytes(KEY_BYTES), mode=0o600)
        key = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"releases.path: {file}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"releases.path: {file}: a key of {KEY_BYTES} bytes, got {len(key)}; remove the file, "
            "and answers given before can no longer be rated"
        )
    return key


def replica_mark(kept: bytes) -> bytes:
    """A name of the replica, derived from its own key without revealing the key."""
    return hmac.digest(kept, b"replica", hashlib.sha256)[:_MARK_BYTES]
