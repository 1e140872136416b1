"""Prometheus series of classification, which show a drift of inputs or labels."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from service.context import RequestContext
from service.telemetry.series import SeriesFactory

OTHER_LABEL = "other"

_SCORE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_READS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class ClassificationMetrics:
    """Counts the labels given to inputs; `label` is an adapter's own, or `OTHER_LABEL`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Labels given to inputs: an adapter's by name, a request's own as `other`."
        self._classifications = make.counter("classifications_total", text, "model", "label")
        text = "Inputs that were given no label."
        self._abstentions = make.counter("classification_abstentions_total", text, "model")
        text = "Probability of an input's best label, also if the answer abstained."
        self._score = make.histogram("classification_score", text, _SCORE, "model")
        text = "Engine reads that an input took."
        self._reads = make.histogram("classification_reads", text, _READS, "model")

    def classified(
        self, context: RequestContext, labels: Sequence[str], score: float, reads: int
    ) -> None:
        """Count an input with these labels, none when the answer abstained."""
        model = context.unversioned_model
        for label in labels:
            self._classifications[model, label].inc()
        # From the first input on, so that a model that never abstains has a share too.
        self._abstentions[model,].inc(not labels)
        self._score[model,].observe(score)
        self._reads[model,].observe(reads)
