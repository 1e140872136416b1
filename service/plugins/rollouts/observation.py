"""Observation of one request: its facts that may differ from version to version."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.context.answer import Answer

Missed = Callable[[RequestContext, str, Ending], Collection[str] | None]
"""The objectives that a request missed; None for a request that has none."""

LATENCIES = ("ttft", "tpot", "e2e")
SCORES = {f"score {cut:g}": cut for cut in (0.5, 0.7, 0.9, 0.99)}
"""Tests of the best score's distribution, each by the share of texts up to this score."""
LENGTHS = {f"length {cut}": cut for cut in (16, 64, 256, 1024)}
"""Tests of the lengths' distribution, each by the share of answers up to so many tokens."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Criteria of a request, each true for a hit; the labels of its first text, if it has one.

    None stands for what its end decides, while it runs and if its client left before.
    """

    hits: Mapping[str, bool | None]
    labels: Collection[str] | None = None


def observe(context: RequestContext, ending: Ending | None, missed: Missed) -> Observation | None:
    """What is known of a request, which runs (`ending` None) or has ended.

    It counts from its first token or result on, whatever its end: who reads an answer may know the
    version by it, and must not choose which ones count. Without any it counts if it failed or was
    invalid. None for one without engine work, refused, or left by its client before.

    Of a classification only the text that was answered first counts, because texts of one request
    are often alike.
    """
    outcome = "runs" if ending is None else ending.outcome
    if outcome == "refused" or (ending is not None and not OPERATIONS.get(context.route)):
        return None
    answer = context.extension(Answer) or Answer()
    first = answer.first_result
    begun = ending is None or first is not None or context.times.first_token is not None
    if outcome == "cancelled" and not begun:
        return None
    failed = outcome in ("error", "deadline") or (first is not None and first.failed)
    left = outcome == "cancelled" and not failed
    hits: dict[str, bool | None] = {
        "errors": None if left else failed,
        "invalid": outcome == "invalid",
    }
    labels = None
    if first is not None and not first.failed:
        hits["abstentions"] = not first.labels
        hits |= {name: first.score <= cut for name, cut in SCORES.items()}
        labels = first.labels
    if begun and outcome != "invalid":
        cut, whole = answer.structure_cut, outcome == "ok"
        hits |= _generated(context.tokens.completion, cut, whole=whole) if first is None else {}
        hits |= _latencies(context, ending, missed)
    return Observation(hits, labels)


def _generated(tokens: int, structure_cut: bool | None, *, whole: bool) -> dict[str, bool | None]:
    """Lengths, and whether a structure was cut; a part of an answer is at least so long."""
    hits = {name: False if tokens > cut else whole or None for name, cut in LENGTHS.items()}
    if structure_cut or not whole:
        return hits | {"structure": structure_cut or None}
    return hits if structure_cut is None else hits | {"structure": False}


def _latencies(
    context: RequestContext, ending: Ending | None, missed: Missed
) -> dict[str, bool | None]:
    """The objectives that were missed; of a request that did not end well, only what is known."""
    if context.tier == "flex":
        return {}
    if ending is None or ending.outcome not in ("ok", "cancelled"):
        return dict.fromkeys(LATENCIES)
    found = missed(context, context.model, ending) or ()
    if ending.outcome == "cancelled":
        ttft = "ttft" in found if context.times.first_token is not None else None
        return {"ttft": ttft, "tpot": None, "e2e": "e2e" in found or None}
    hits = {name: name in found for name in LATENCIES}
    if context.token_seconds() is None:
        del hits["tpot"]
    return dict(hits)
