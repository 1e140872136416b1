"""Feedback: ratings of answers by their callers, which move the level of label sets."""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from pydantic import Field

from service.context import RequestContext
from service.engine.pooling import ConformalSets
from service.errors import InvalidRequest
from service.http.bodies import AnswerBody, RequestBody
from service.plugins.rollouts.answer_ids import AnswerIds, RatedAnswer, replica_mark, shared_key
from service.plugins.rollouts.feedback_ledger import Rated, Rating, Version, told
from service.plugins.rollouts.metrics import FeedbackMetrics
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.settings import FeedbackSettings
from service.plugins.rollouts.store import Store


class Feedback:
    """Counts ratings, and passes those with a score to the releases.

    If `step` is set, each true label moves the conformal level of the version that answered. `of`
    raises ConfigurationError for a key that cannot be used.
    """

    @classmethod
    def of(
        cls,
        settings: FeedbackSettings,
        store: Store,
        releases: Releases | None,
        registry: CollectorRegistry,
    ) -> "Feedback":
        """Feedback that is kept in a store."""
        step = settings.adaptive_step if settings.adaptive_sets else None
        return cls(store, releases, FeedbackMetrics(registry), shared_key(settings), step)

    def __init__(
        self,
        store: Store,
        releases: Releases | None,
        metrics: FeedbackMetrics,
        key: bytes | None = None,
        step: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._releases = releases
        self._metrics = metrics
        self._key = key
        self._step = step
        self._now = now

    @cached_property
    def ids(self) -> AnswerIds:
        """The ids of answers, once the store is open, which has the key if none is set."""
        return AnswerIds(self._key or self._store.key, replica_mark(self._store.key))

    async def rate(self, answer: RatedAnswer, rating: Rating, tenant: str) -> None:
        """Count a tenant's rating.

        Raises Conflict for an answer that was rated already, InvalidRequest for one that is too
        old, Unavailable for a store that cannot be reached.
        """
        rated = Rated(tenant, answer, rating, self._now(), self._step)
        tally = await self._store.rate(rated)
        self._metrics.rated(rated.version, rating.score, tally)
        if self._releases is not None and rating.score is not None and answer.stage:
            self._releases.rate(answer.adapter, answer.stage, answer.digest, rating.score, tenant)

    def sets(self, context: RequestContext, fitted: ConformalSets) -> ConformalSets:
        """The label sets of a request's version at its present level."""
        if self._step is None or context.adapter is None:
            return fitted
        engine_name = context.adapter.engine_name
        sets = fitted.at(self._store.levels.get(engine_name, fitted.level))
        version = Version(engine_name.rpartition("@")[0], context.adapter.version)
        self._metrics.answered(version, sets.level)
        return sets

    async def told(self) -> list[dict[str, Any]]:
        """The figures of every version, as JSON."""
        return told(await self._store.tallies())


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
