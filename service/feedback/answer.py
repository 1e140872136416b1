"""An answer that can be rated, as its id carries it."""

from dataclasses import dataclass
from typing import Any

from service.context import RequestContext


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
        told = _told(context)
        return cls(name, context.version, digest, context.stage, time, told, nonce)

    @property
    def engine_name(self) -> str:
        """The version's name in the engine, which no other version has."""
        return f"{self.adapter}@{self.digest}"

    def packed(self) -> list[Any]:
        """The answer as JSON."""
        told = self.told and [
            self.told.best,
            self.told.score,
            self.told.abstained,
            self.told.label_set and _packed_set(self.told.label_set),
        ]
        where = [self.adapter, self.version, self.digest, self.stage]
        return [*where, self.time, told, self.nonce]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "RatedAnswer":
        """The answer that `packed` gave."""
        adapter, version, digest, stage, time, told, nonce = packed
        if told is not None:
            best, score, abstained, label_set = told
            told = ToldLabel(best, score, abstained, label_set and _unpacked_set(*label_set))
        return cls(adapter, version, digest, stage, time, told, nonce)


def _told(context: RequestContext) -> ToldLabel | None:
    text = context.first_text
    if text is None or text.best is None:
        return None
    label_set = None
    if text.label_set is not None and (sets := text.conformal) is not None:
        label_set = ToldSet(frozenset(text.label_set), sets.coverage, sets.level)
    return ToldLabel(text.best, round(text.score, 4), not text.labels, label_set)


def _packed_set(told: ToldSet) -> list[Any]:
    """The set as JSON, its members as bits of a hexadecimal number: short also for hundreds."""
    return [f"{sum(1 << place for place in told.members):x}", told.coverage, told.level]


def _unpacked_set(mask: str, coverage: float, level: float) -> ToldSet:
    bits = int(mask, 16)
    members = frozenset(place for place in range(bits.bit_length()) if bits >> place & 1)
    return ToldSet(members, coverage, level)
