"""Series of drift: the distance of a model's latest inputs from the reference in its manifest.

PSI is the population stability index, the sum over bins of (p - q) ln(p / q): the symmetric
Kullback-Leibler divergence (Kullback & Leibler 1951, "On information and sufficiency", J of
section 2). KS is the two-sample Kolmogorov-Smirnov distance, over the bins' edges.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry

from service.engine.pooling import InputCounts, Reference
from service.telemetry.series import SeriesFactory

WINDOW = 1000
"""The most inputs of a model that are compared; once it has had more, at least half of these."""
LEAST = 200
"""The fewest inputs that are compared."""
_STALE_SECONDS = 3600.0
"""Time after the last input from which a model has no distance: it may not be served any more."""
_PSEUDO = 0.5
"""Added to every bin, so that an empty one is not infinitely far."""
_ORDERED = ("scores", "lengths")


class DriftMetrics:
    """Compares each model's latest inputs with its reference, if it has one, at each scrape."""

    def __init__(
        self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        make = SeriesFactory(registry)
        text = f"Distance of the latest {WINDOW // 2} to {WINDOW} inputs from the model's "
        text += "reference, "
        self._psi = make.gauge("drift_psi", f"{text}as population stability index.", "model", "of")
        self._ks = make.gauge("drift_ks", f"{text}by Kolmogorov and Smirnov.", "model", "of")
        self._windows: dict[str, _Window] = {}

    def observe(
        self, model: str, reference: Reference, label: str, score: float, characters: int
    ) -> None:
        """Count an input with its best label; restart the counts if the reference has changed."""
        window = self._windows.get(model)
        if window is None:
            self._follow(model)
        if window is None or window.reference != reference:
            window = self._windows[model] = _Window(reference)
        window.add(label, score, characters)
        window.last = self._now()

    def _follow(self, model: str) -> None:
        for of in ("labels", *_ORDERED):
            self._psi.labels(model, of).set_function(partial(self._distance, psi, model, of))
        for of in _ORDERED:
            self._ks.labels(model, of).set_function(partial(self._distance, ks, model, of))

    def _distance(
        self, distance: Callable[[Sequence[int], Sequence[int]], float], model: str, of: str
    ) -> float:
        """The distance now; NaN with too few inputs, or without any in the last hour."""
        window = self._windows[model]
        found = window.counts(of)
        fresh = self._now() - window.last < _STALE_SECONDS
        return distance(found, window.expected(of)) if fresh and sum(found) >= LEAST else math.nan


class _Window:
    """The latest inputs, counted in two halves: one that is full, and one that is being filled."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.last = 0.0
        self._full = self._filling = InputCounts(tuple(reference.labels))

    def add(self, label: str, score: float, characters: int) -> None:
        if self._filling.inputs >= WINDOW // 2:
            self._full = self._filling
            self._filling = InputCounts(tuple(self.reference.labels))
        self._filling.add(label, score, characters)

    def counts(self, of: str) -> list[int]:
        """The counts of each bin; safe in the scraping thread while the event loop adds."""
        full, filling = self._full, self._filling
        found = _bins(filling, of)
        if full is filling:
            return found
        return [a + b for a, b in zip(_bins(full, of), found, strict=True)]

    def expected(self, of: str) -> list[int]:
        return _bins(self.reference, of)


def _bins(counts: Reference, of: str) -> list[int]:
    return list(counts.labels.values() if of == "labels" else getattr(counts, of))


def psi(found: Sequence[int], expected: Sequence[int]) -> float:
    """The population stability index of two histograms over the same bins; 0 for equal ones."""
    p, q = (np.add(counts, _PSEUDO) for counts in (found, expected))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def ks(found: Sequence[int], expected: Sequence[int]) -> float:
    """The largest difference of the two cumulative shares, in 0..1."""
    p, q = (np.cumsum(counts) / max(1, sum(counts)) for counts in (found, expected))
    return float(np.abs(p - q).max())
