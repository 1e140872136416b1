"""Observation of one request: its facts that may differ from version to version."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from service.context import Ending, RequestContext
from service.operations import OPERATIONS

Missed = Callable[[RequestContext, str, Ending], Collection[str] | None]
"""The objectives that a request missed; None for a request that has none."""

LATENCIES = ("ttft", "tpot", "e2e")
SCORES = {f"score {cut:g}": cut for cut in (0.5, 0.7, 0.9, 0.99)}
"""Tests of the best score's distribution, each by the share of texts up to this score."""
LENGTHS = {f"length {cut}": cut for cut in (16, 64, 256, 1024)}
"""Tests of the lengths' distribution, each by the share of answers up to so many tokens."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Criteria of a request, each true for a hit; the labels of its first text, if it has one."""

    hits: dict[str, bool]
    labels: Collection[str] | None = None


def observe(context: RequestContext, ending: Ending, missed: Missed) -> Observation | None:
    """The observation of a request; None for one without engine work, refused, or cancelled.

    Of a classification only the first text counts, because texts of one request are often alike.
    """
    if ending.outcome in ("refused", "cancelled") or not OPERATIONS.get(context.route):
        return None
    late = ending.outcome == "deadline"
    first = context.first_text
    failed = ending.outcome == "error" or late or (first is not None and first.failed)
    hits = {"errors": failed, "invalid": ending.outcome == "invalid"}
    labels = None
    if first is not None and not first.failed:
        hits["abstentions"] = not first.labels
        hits |= {name: first.score <= cut for name, cut in SCORES.items()}
        labels = first.labels
    if ending.outcome == "ok":
        if first is None:
            tokens = context.completion_tokens
            hits |= {name: tokens <= cut for name, cut in LENGTHS.items()}
        if context.structure_cut is not None:
            hits["structure"] = context.structure_cut
        found = missed(context, context.model, ending)
        if found is not None:
            hits |= {name: name in found for name in LATENCIES}
            if context.token_seconds() is None:
                del hits["tpot"]
    return Observation(hits, labels)
