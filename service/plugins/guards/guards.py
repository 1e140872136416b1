"""Guards, each of which judges texts by a classification model of its own, and their metrics."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry

from service.adapters.choice import Models
from service.classification.calibration import Array
from service.classification.result import TextClassifier
from service.common.aio import bounded_gather, gather
from service.common.error_messages import nearest, quote
from service.context import RequestContext, internal_request, work_beside
from service.errors import (
    AdapterQuarantined,
    ConfigurationError,
    EncoderQuarantined,
    GuardFailed,
    InvalidRequest,
    ServiceError,
)
from service.plugins.guards.settings import GuardSettings, GuardsSettings
from service.telemetry.series import LATENCY, SeriesFactory


class GuardMetrics:
    """Counts what guards found in texts, and times their reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Requests, and pieces of answers, that a guard read, by what became of them."
        self._checks = make.counter("guard_checks_total", text, "guard", "side", "verdict")
        text = "Time that a guard took for a request or piece of answer, waiting included."
        self._seconds = make.histogram("guard_check_seconds", text, LATENCY, "guard")
        text = "Time that text of an answer was held until its guards had read it."
        self._held = make.histogram("guard_held_seconds", text, LATENCY)

    def checked(self, side: str, guard: str, verdict: str) -> None:
        """Count a checked request, or a checked piece of an answer, by the guard's verdict."""
        self._checks[guard, side, verdict].inc()

    def held(self, seconds: float) -> None:
        """Record how long a piece of an answer waited for its guards."""
        self._held[()].observe(seconds)

    def took(self, guard: str, seconds: float) -> None:
        """Record the time that a guard took for one request."""
        self._seconds[guard,].observe(seconds)


_HALVINGS = 6
_OVERLAP = 64
"""Most characters on each side of a cut that both halves of a text contain."""


async def probabilities(
    classifier: TextClassifier, text: str, slots: asyncio.Semaphore, halvings: int = _HALVINGS
) -> Array:
    """The calibrated probability of each of the classifier's labels.

    A text that is too long is split into two overlapping halves, and each half again if needed; a
    label's probability is its largest in any part. Raises InvalidRequest for a text whose parts are
    too long after `halvings` splits, and what `TextClassifier.score` raises.
    """
    try:
        score = await classifier.score(text, slots)
    except InvalidRequest as error:
        if error.code != "context_length_exceeded" or not halvings:
            raise
    else:
        whole: Array = np.exp(score.log_probs)
        return whole
    middle, shared = len(text) // 2, min(_OVERLAP, len(text) // 8)
    halves = (text[: middle + shared], text[middle - shared :])
    read = await gather(probabilities(classifier, half, slots, halvings - 1) for half in halves)
    largest: Array = np.maximum(*read)
    return largest


_log = logging.getLogger(__name__)

_SLOTS = 4
"""Engine requests that one guard has waiting or running for one request."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's verdict on one text: the probability of each of the guard's labels."""

    scores: Mapping[str, float]
    threshold: float

    @property
    def flagged(self) -> tuple[str, ...]:
        """The labels that reach the threshold."""
        return tuple(label for label, score in self.scores.items() if score >= self.threshold)


class Guards:
    """Judges texts by the configured guards, each on a model of its own with admission control."""

    def __init__(self, settings: GuardsSettings, models: Models, metrics: GuardMetrics) -> None:
        self._named = settings.named
        self._models = models
        self._metrics = metrics

    async def check(self) -> None:
        """Raise ConfigurationError for a guard whose model is not served or lacks its labels.

        For a quarantined model it only logs a warning, because a reload may bring the model back.
        """
        for name, guard in self._named.items():
            async with internal_request("guards", 1.0) as context:
                try:
                    classifier = self._models.choose_for_service(guard.model, context)
                    _places(guard, classifier)
                    _threshold(guard, classifier)
                except (AdapterQuarantined, EncoderQuarantined) as error:
                    _log.warning("guard %s: %s", name, error.message)
                except ServiceError as error:
                    raise ConfigurationError(f"guards.named.{name}: {error.message}") from None

    def usable_by(self, context: RequestContext) -> list[str]:
        """The names of the guards whose models the request's tenant may use."""
        return [
            name
            for name, guard in self._named.items()
            if self._models.may_use(guard.model, context.tenant)
        ]

    async def read(
        self,
        name: str,
        texts: Sequence[str],
        context: RequestContext,
        *,
        admitted: bool = False,
    ) -> list[Verdict]:
        """The verdict of one guard about each text; the tokens count as the request's.

        With `admitted` the guard's admission treats the reads as later parts of an admitted
        request, which it does not refuse. Raises what `Models.choose_for_service` and
        `probabilities` raise.
        """
        guard, begun = self._named[name], time.monotonic()
        async with work_beside(context) as own:
            classifier = self._models.choose_for_service(guard.model, own)
            places, threshold = _places(guard, classifier), _threshold(guard, classifier)
            own.parts, own.admitted = len(texts) * classifier.reads, admitted
            slots = asyncio.Semaphore(_SLOTS)
            read = partial(probabilities, classifier, slots=slots)
            found = await bounded_gather(read, texts, _SLOTS)
        self._metrics.took(name, time.monotonic() - begun)
        return [
            Verdict({label: float(each[at]) for label, at in places.items()}, threshold)
            for each in found
        ]


def _places(guard: GuardSettings, classifier: TextClassifier) -> dict[str, int]:
    """The index of each of the guard's labels in a score; GuardFailed if one is missing."""
    names = list(classifier.names)
    for label in guard.labels:
        if label not in names:
            raise GuardFailed(
                f"labels: {guard.model} has no label {quote(label)}{nearest(label, names)}"
            )
    return {label: names.index(label) for label in guard.labels}


def _threshold(guard: GuardSettings, classifier: TextClassifier) -> float:
    """The guard's own threshold, or its model's; GuardFailed if neither has one for its labels."""
    if guard.threshold is not None:
        return guard.threshold
    if classifier.guard is None or set(classifier.guard[0]) != set(guard.labels):
        raise GuardFailed(
            f"threshold: must be set, as the manifest of {guard.model} has none for its labels; "
            "`llm-service calibrate-guard` finds it"
        )
    return classifier.guard[1]
