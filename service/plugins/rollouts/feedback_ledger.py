"""Ratings of answers: their totals and conformal levels by version, and the file with both."""

import heapq
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from service.common.files import write_atomically
from service.engine.pooling import missing
from service.errors import ConfigurationError, Conflict
from service.plugins.rollouts.answer_ids import (
    DAY_SECONDS,
    RatedAnswer,
    ToldLabel,
    ToldSet,
    too_old,
)


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of an answer.

    `score` is 1 for right, 0 for wrong, or between. It is None if the true label of an answer that
    abstained was given, because such an answer is neither. `right` tells whether the best label was
    right; `label` is the index of the true label.
    """

    score: float | None
    right: bool | None = None
    label: int | None = None

    @classmethod
    def by_label(cls, told: ToldLabel, label: int) -> "Rating":
        """The rating of a caller that knows the true label."""
        right = told.best == label
        return cls(None if told.abstained else float(right), right, label)

    @classmethod
    def by_word(cls, told: ToldLabel | None, *, correct: bool) -> "Rating":
        """The rating of a caller that only says whether the answer was right."""
        gives = told is not None and not told.abstained
        return cls(float(correct), correct if gives else None)


LEVEL_MOST = 0.5
PULL = 3


def moved(level: float, told: ToldSet, step: float, *, missed: bool) -> float:
    """The conformal level after the true label of one more text with a label set is known.

    Gibbs and Candès 2021, "Adaptive Conformal Inference Under Distribution Shift", equation 2:
    level += step (promised level - missed), where `missed` is 1 if the set did not hold the label.
    The share of missed texts approaches the promised level, whatever the texts are: over T texts
    they differ by at most (1 + step) / (step T), if at level 0 every label is in the set
    (proposition 4.1). A level stays below LEVEL_MOST, which can only lower that share, and is at
    least -step, so that it can rise again; negative levels act like 0.

    The paper assumes that each true label comes before the next text. Here it may come later, after
    other ratings have moved the level. So a rating also moves the level towards the one with which
    the answer's set was made, by the factor PULL, and late ratings do not make a level oscillate.
    """
    promised = missing(told.coverage)
    level += step * (promised - missed + PULL * (told.level - max(0.0, level)))
    return round(min(max(level, -step), max(LEVEL_MOST, promised)), 9)


@dataclass(frozen=True, slots=True)
class Rated:
    """A tenant's rating of an answer at a time, in seconds since 1970.

    With a `step` the true label of an answer with a label set moves the version's level.
    """

    tenant: str
    answer: RatedAnswer
    rating: Rating
    now: float
    step: float | None = None

    @property
    def version(self) -> "Version":
        """The version that answered."""
        return Version(self.answer.adapter, self.answer.version)

    @property
    def told_set(self) -> ToldSet | None:
        """The label set by which the level moves, if it does."""
        told = None if self.answer.told is None else self.answer.told.label_set
        return None if self.step is None or self.rating.label is None else told

    def moved(self, level: float | None) -> float | None:
        """The version's level after the rating, if it moves; None before for the promised one."""
        if (told := self.told_set) is None or self.step is None:
            return None
        before = missing(told.coverage) if level is None else level
        return moved(before, told, self.step, missed=self.rating.label not in told.members)


def already_rated() -> Conflict:
    """The refusal of a second rating of an answer."""
    return Conflict("id: this answer was rated already", code="already_rated", param="id")


MOST = 32_768

Seen = tuple[int, str]
"""The time and the nonce of an answer."""


class SeenIds:
    """The answers that each tenant rated in the last day, at most MOST in total.

    Above MOST the tenant with the most entries loses its oldest one, and can no longer rate answers
    as old as that. So no answer counts twice, and no tenant displaces the entries of a tenant that
    rates less.
    """

    def __init__(self, kept: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> None:
        self._tenants = {tenant: _TenantSeen(**each) for tenant, each in kept.items()}

    def add(self, tenant: str, answer: RatedAnswer, now: float) -> bool:
        """Remember an answer; False if it was rated already.

        Raises InvalidRequest for an answer so old that it may have been forgotten.
        """
        own = self._tenants.setdefault(tenant, _TenantSeen())
        if not own.add((answer.time, answer.nonce)):
            return False
        own.forget_before(now - DAY_SECONDS - 1)
        if sum(map(len, self._tenants.values())) > MOST:
            max(self._tenants.values(), key=len).forget_oldest()
        return True

    def kept(self) -> dict[str, dict[str, Any]]:
        """The answers by tenant, in the constructor's form."""
        return {tenant: each.kept() for tenant, each in self._tenants.items()}


class _TenantSeen:
    """The answers that a tenant rated; `floor` is the time of the last one that was forgotten."""

    def __init__(self, ids: Iterable[Iterable[Any]] = (), floor: int = 0) -> None:
        self._heap: list[Seen] = [(time, nonce) for time, nonce in ids]
        heapq.heapify(self._heap)
        self._members = set(self._heap)
        self._floor = floor

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, seen: Seen) -> bool:
        if seen in self._members:
            return False
        if seen[0] <= self._floor:
            raise too_old("too many answers since this one were rated")
        heapq.heappush(self._heap, seen)
        self._members.add(seen)
        return True

    def forget_before(self, time: float) -> None:
        while self._heap[0][0] < time:
            self._members.remove(heapq.heappop(self._heap))

    def forget_oldest(self) -> None:
        oldest = heapq.heappop(self._heap)
        self._members.remove(oldest)
        self._floor = oldest[0]

    def kept(self) -> dict[str, Any]:
        return {"ids": list(self._heap), "floor": self._floor}


BINS = 15


@dataclass(slots=True)
class Tally:
    """Sums over the rated answers of a version.

    `right` is the sum of ratings, 1 for right and 0 for wrong. `bins` are the equal-width bins of
    the expected calibration error (Guo et al. 2017); each counts its answers, sums their stated
    probabilities, and counts the right ones. Of `sets` label sets, `covered` held the true label.
    """

    rated: int = 0
    right: float = 0.0
    bins: list[list[float]] = field(default_factory=lambda: [[0, 0.0, 0] for _ in range(BINS)])
    sets: int = 0
    covered: int = 0

    def add(self, told: ToldLabel | None, rating: Rating) -> None:
        """Count a rating; `told` is the content of the rated answer."""
        if rating.score is not None:
            self.rated += 1
            self.right += rating.score
        if told is None:
            return
        if rating.right is not None:
            self._claim(told, right=rating.right)
        if told.label_set is not None and rating.label is not None:
            self.sets += 1
            self.covered += rating.label in told.label_set.members

    def _claim(self, told: ToldLabel, *, right: bool) -> None:
        """Count the stated probability of the best label, and whether this label was right."""
        place = max(0, math.ceil(told.score * BINS) - 1)
        self.bins[place][0] += 1
        self.bins[place][1] += told.score
        self.bins[place][2] += right

    @property
    def accuracy(self) -> float | None:
        """Mean rating; None without any."""
        return self.right / self.rated if self.rated else None

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error; None without ratings."""
        claims = sum(count for count, _, _ in self.bins)
        apart = sum(abs(right - stated) for _, stated, right in self.bins)
        return apart / claims if claims else None

    @property
    def coverage(self) -> float | None:
        """Share of label sets that held the true label; None without any."""
        return self.covered / self.sets if self.sets else None

    def told(self) -> dict[str, Any]:
        """The figures as JSON."""
        figures = {
            "accuracy": self.accuracy,
            "calibration_error": self.calibration_error,
            "coverage": self.coverage,
        }
        shown = {name: value and round(value, 4) for name, value in figures.items()}
        return {"rated": self.rated, **shown, "sets": self.sets}

    def kept(self) -> dict[str, Any]:
        """The sums, in the constructor's form."""
        return {
            "rated": self.rated,
            "right": self.right,
            "bins": [list(each) for each in self.bins],
            "sets": self.sets,
            "covered": self.covered,
        }


_log = logging.getLogger(__name__)
FILE = "feedback.json"
MOST_VERSIONS = 256


class Version(NamedTuple):
    """A version of an adapter, by its configured name."""

    adapter: str
    version: str


class FeedbackLedger:
    """The counts and levels of all versions; with a folder they survive restarts.

    `levels` are conformal levels, by the version's name in the engine. Above MOST_VERSIONS versions
    the one that was rated first is dropped.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / FILE
        self.tallies: dict[Version, Tally] = {}
        self.levels: dict[str, float] = {}
        self.seen = SeenIds()
        self._changed = False
        if self._file is not None and self._file.exists():
            try:
                self.tallies, self.levels, self.seen = _read(self._file)
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("%s: not read, feedback counts anew: %s", self._file, error)

    def rate(self, rated: Rated) -> Tally:
        """Count a rating; raises as `store.Store.rate`."""
        if not self.seen.add(rated.tenant, rated.answer, rated.now):
            raise already_rated()
        tally = self.tally(rated.version)
        tally.add(rated.answer.told, rated.rating)
        name = rated.answer.engine_name
        if (level := rated.moved(self.levels.get(name))) is not None:
            self.move(name, level)
        return tally

    def tally(self, version: Version) -> Tally:
        """The tally of a version, to which the caller adds."""
        self._changed = True
        _make_room(self.tallies, version)
        return self.tallies.setdefault(version, Tally())

    def move(self, version: str, level: float) -> None:
        """Set the conformal level of a version."""
        self._changed = True
        _make_room(self.levels, version)
        self.levels[version] = level

    def collect(self) -> bytes | None:
        """The content to write; None if nothing changed or there is no folder."""
        if self._file is None or not self._changed:
            return None
        self._changed = False
        tallies = [[*version, tally.kept()] for version, tally in self.tallies.items()]
        kept = {"tallies": tallies, "levels": self.levels, "rated": self.seen.kept()}
        return json.dumps(kept).encode()

    def write(self, content: bytes) -> None:
        """Write the counts to disk; blocks. Raises OSError."""
        assert self._file is not None
        try:
            write_atomically(self._file, content, mode=0o600)
        except OSError:
            self._changed = True
            raise


def read_tallies(folder: Path) -> Mapping[Version, Tally]:
    """The tallies that a service keeps in a folder; raises ConfigurationError if it cannot."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder")
    file = folder / FILE
    try:
        return _read(file)[0] if file.exists() else {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{file}: not a file of feedback: {error}") from error


def told(tallies: Mapping[Version, Tally]) -> list[dict[str, Any]]:
    """The figures of each version as JSON."""
    return [version._asdict() | tally.told() for version, tally in tallies.items()]


def _make_room(kept: dict[Any, Any], version: Any) -> None:
    """Forget the first version if a new one would be too many."""
    if version not in kept and len(kept) >= MOST_VERSIONS:
        del kept[next(iter(kept))]


def _read(file: Path) -> tuple[dict[Version, Tally], dict[str, float], SeenIds]:
    found = json.loads(file.read_bytes())
    tallies = {Version(name, version): Tally(**sums) for name, version, sums in found["tallies"]}
    return tallies, dict(found.get("levels", {})), SeenIds(found.get("rated", {}))
