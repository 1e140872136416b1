"""Conformal level of a version, adjusted by feedback to keep its coverage when inputs shift.

Source: Gibbs and Candès 2021, "Adaptive Conformal Inference Under Distribution Shift", equation 2:
after each text whose true label became known, level += step (promised level - missed), where
`missed` is 1 if its set did not hold the label. The share of missed texts approaches the promised
level, whatever the texts are: over T texts they differ by at most (1 + step) / (step T), if at
level 0 every label is in the set (proposition 4.1). Here a level stays below MOST, which can only
lower that share.

The paper assumes that each true label comes before the next text. Here a label may come later, or
to another replica than the one that answered. The answer's label set may then have been made at
another level than the present one. Such a rating also moves the present level towards that level,
by the factor PULL. So late ratings do not make a level oscillate, and the levels of replicas stay
close.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from pydantic import Field

from service.context import RequestContext
from service.engine.pooling import ConformalSets, missing
from service.errors import Conflict, InvalidRequest
from service.http.bodies import AnswerBody, RequestBody
from service.plugins.rollouts.answer_ids import (
    AnswerIds,
    RatedAnswer,
    ToldSet,
    kept_key,
    replica_mark,
    shared_key,
)
from service.plugins.rollouts.feedback_ledger import (
    FeedbackLedger,
    FeedbackMetrics,
    Rating,
    Version,
    told,
)
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.settings import FeedbackSettings

MOST = 0.5
PULL = 3


def moved(level: float, told: ToldSet, step: float, *, missed: bool) -> float:
    """The level after the true label of one more text, whose label set was returned, is known.

    Negative levels act like 0, at which sets hold every label. The level is at least -step, so that
    it can rise again after enough sets with the true label.
    """
    promised = missing(told.coverage)
    level += step * (promised - missed + PULL * (told.level - max(0.0, level)))
    return round(min(max(level, -step), max(MOST, promised)), 9)


_log = logging.getLogger(__name__)
_TICK_SECONDS = 5.0


class Feedback:
    """Counts ratings, and passes those with a score to the releases.

    If `step` is set, each true label moves the conformal level of the version that answered. `of`
    raises ConfigurationError for a key that cannot be used.
    """

    @classmethod
    def of(
        cls,
        settings: FeedbackSettings,
        folder: Path | None,
        releases: Releases | None,
        registry: CollectorRegistry,
    ) -> "Feedback":
        """Feedback that is stored in a folder, or without a folder only in memory."""
        kept = kept_key(folder)
        ids = AnswerIds(shared_key(settings) or kept, replica_mark(kept))
        step = settings.adaptive_step if settings.adaptive_sets else None
        return cls(ids, FeedbackLedger(folder), releases, FeedbackMetrics(registry), step)

    def __init__(
        self,
        ids: AnswerIds,
        ledger: FeedbackLedger,
        releases: Releases | None,
        metrics: FeedbackMetrics,
        step: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ids = ids
        self._ledger = ledger
        self._releases = releases
        self._metrics = metrics
        self._step = step
        self._now = now

    def rate(self, answer: RatedAnswer, rating: Rating, tenant: str) -> None:
        """Count a tenant's rating.

        Raises Conflict for an answer that was rated already, InvalidRequest for one that is too
        old.
        """
        if not self._ledger.seen.add(tenant, answer, self._now()):
            raise Conflict("id: this answer was rated already", code="already_rated", param="id")
        version = Version(answer.adapter, answer.version)
        tally = self._ledger.tally(version)
        tally.add(answer.told, rating)
        self._metrics.rated(version, rating.score, tally)
        self._move(answer, rating)
        if self._releases is not None and rating.score is not None and answer.stage:
            self._releases.rate(answer.adapter, answer.stage, answer.digest, rating.score, tenant)

    def sets(self, context: RequestContext, fitted: ConformalSets) -> ConformalSets:
        """The label sets of a request's version at its present level."""
        if self._step is None or context.adapter is None:
            return fitted
        engine_name = context.adapter.engine_name
        sets = fitted.at(self._ledger.levels.get(engine_name, fitted.level))
        version = Version(engine_name.rpartition("@")[0], context.adapter.version)
        self._metrics.answered(version, sets.level)
        return sets

    def _move(self, answer: RatedAnswer, rating: Rating) -> None:
        """Move the version's level by whether the label set that was told held the true label."""
        told = None if answer.told is None else answer.told.label_set
        if self._step is None or told is None or rating.label is None:
            return
        level = self._ledger.levels.get(answer.engine_name, missing(told.coverage))
        missed = rating.label not in told.members
        self._ledger.move(answer.engine_name, moved(level, told, self._step, missed=missed))

    def told(self) -> list[dict[str, Any]]:
        """The figures of every version, as JSON."""
        return told(self._ledger.tallies)

    async def run(self) -> None:
        """Write the counts to disk until cancelled; a write that fails is tried again."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            content = self._ledger.collect()
            if content is not None:
                try:
                    await asyncio.to_thread(self._ledger.write, content)
                except OSError as error:
                    _log.error("feedback: not written: %s", error)

    def close(self) -> None:
        """Write the counts to disk a last time; blocks."""
        content = self._ledger.collect()
        if content is not None:
            with suppress(OSError):
                self._ledger.write(content)


_KINDS = ("label", "correct", "score")


class FeedbackRequest(RequestBody):
    """A rating of an answer: exactly one of `label`, `correct` and `score`."""

    id: str = Field(max_length=4096, description="The answer's `X-Feedback-Id` header.")
    label: str | None = Field(None, description="The true label of the first text.")
    correct: bool | None = Field(None, description="True if the answer was right.")
    score: float | None = Field(
        None, ge=0, le=1, description="How right it was, from 0 (wrong) to 1 (right)."
    )

    def check_one(self) -> None:
        """Raise InvalidRequest unless exactly one field is set."""
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise InvalidRequest(
                f"{given[-1] if given else 'label'}: give exactly one of {', '.join(_KINDS)}, got "
                f"{found}",
                param=given[-1] if given else "label",
            )


class FeedbackAnswer(AnswerBody):
    """The rating that was counted, and its version.

    `score` is null if the true label of an answer that abstained was given, because such an answer
    is neither right nor wrong.
    """

    object: Literal["feedback"] = "feedback"
    model: str
    version: str
    score: float | None
