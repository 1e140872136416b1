"""An answer that can be rated, as its id carries it."""

import struct
from dataclasses import dataclass

from service.context import RequestContext
from service.context.answer import Answer
from service.releases.stage import Drawn

_FORM = 3
"""Number of the form of `packed`."""
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
    """The first text's answer of a classifier whose labels exclude each other.

    Labels are places in the adapter's list. `label_set` is None without a conformal calibration.
    """

    best: int
    score: float
    abstained: bool
    label_set: ToldSet | None


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """The version that answered, when (seconds since 1970), and what it told.

    `stage` is the entry of the releases' log that began the step in which it was judged; 0 for an
    answer that was not. `told` is None for generated text, several labels, and an answer that began
    before the first text was classified. `nonce` tells answers of one second apart.
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
        """The answer of a request as far as it is known; None for an answer of no adapter."""
        if context.adapter is None:
            return None
        name, _, digest = context.adapter.engine_name.rpartition("@")
        step, told = context.extension(Drawn), _told(context)
        since = 0 if step is None else step.since
        return cls(name, context.version, digest, since, time, told, nonce)

    @property
    def engine_name(self) -> str:
        """The version's name in the engine, which no other version has."""
        return f"{self.adapter}@{self.digest}"

    def packed(self) -> bytes:
        """The answer as bytes, whose number depends on the adapter's name alone."""
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
        """The answer that `packed` gave; raises ValueError for that of another form."""
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
