"""Prometheus series of generated answers whose probability of being right is known."""

from prometheus_client import CollectorRegistry

from service.context import RequestContext
from service.telemetry.series import SeriesFactory

_PROBABILITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class GenerationMetrics:
    """Counts the answers of adapters that have a confidence map."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Generated answers that were withheld because of `min_confidence`."
        self._abstentions = make.counter("generation_abstentions_total", text, "model")
        text = "Calibrated probability that a generated answer is right, also of withheld ones."
        self._p_correct = make.histogram("generation_score", text, _PROBABILITY, "model")

    def judged(self, context: RequestContext, p_correct: float | None, *, withheld: bool) -> None:
        """Count an answer with its probability, None where it has none."""
        model = context.unversioned_model
        # From the first answer on, so that a model that never abstains has a share too.
        self._abstentions[model,].inc(withheld)
        if p_correct is not None:
            self._p_correct[model,].observe(p_correct)
