"""Prometheus series of classification, by which a drift of inputs or labels is seen."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.context import RequestContext

OTHER_LABEL = "other"

_SCORE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_READS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class ClassificationMetrics:
    """Counts what inputs were given; `label` is one of an adapter's own, or `OTHER_LABEL`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._classifications = Counter(
            "inference_classifications_total",
            "Labels given to inputs: an adapter's by name, a request's own as `other`.",
            ["model", "label"],
            registry=registry,
        )
        self._abstentions = Counter(
            "inference_classification_abstentions_total",
            "Inputs that were given no label.",
            ["model"],
            registry=registry,
        )
        self._score = Histogram(
            "inference_classification_score",
            "Probability of an input's best label, whether it was given or not.",
            ["model"],
            buckets=_SCORE,
            registry=registry,
        )
        self._reads = Histogram(
            "inference_classification_reads",
            "Engine reads that an input took.",
            ["model"],
            buckets=_READS,
            registry=registry,
        )

    def classified(
        self, context: RequestContext, labels: Sequence[str], score: float, reads: int
    ) -> None:
        """An input was given these labels, none when the answer abstained."""
        model = context.adapter.name if context.adapter else context.model
        for label in labels:
            self._classifications.labels(model, label).inc()
        # From the first input on, so that a share can be told of a model that never abstains.
        self._abstentions.labels(model).inc(not labels)
        self._score.labels(model).observe(score)
        self._reads.labels(model).observe(reads)
