"""The catalogue of the service's own series, docs/metrics.md, from the code that makes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from service.adapters.metrics import AdapterMetrics
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.guards.guards import GuardMetrics
from service.plugins.rollouts.metrics import FeedbackMetrics, ReleaseMetrics
from service.settings.telemetry import MetricsSettings
from service.telemetry.lifecycle import TenantMetrics
from service.telemetry.metrics import Metrics
from tools.markdown_pages import item

PAGE = Path(__file__).parents[1] / "docs/metrics.md"

_HEAD = """\
# Metrics

`GET /metrics` on the admin port serves these series and vLLM's own `vllm:*`, in Prometheus' text
format or in OpenMetrics; there the series of requests carry exemplars with the trace's id.

vLLM's series of finished requests, as `vllm:request_success_total`, leave out requests that their
client or deadline ended; `inference_requests_total` counts all.

Names that end in `_total` are counters, histograms are marked, all others are gauges. The
[labels](#labels) are in brackets: `request` stands for `route`, `model`, `tenant` and
`service_tier`.

"""
_OF_REQUESTS = ("route", "model", "tenant", "service_tier")

LABELS = {
    "adapter": "an adapter's configured name",
    "arm": "`old` or `new`",
    "client": "how the service reaches vLLM: fast, or stock",
    "digest": "of the files of a model, or of an adapter's manifest",
    "engine": "the served name of its model",
    "event": "`configured`, `step`, `full`, `rolled_back`, `withdrawn`, `retried`",
    "field": "an unknown field's place in a body, or `other`",
    "guard": "a guard's configured name",
    "kind": "`prompt` (cached ones included), `cached`, `completion`",
    "label": "a model's own label, else `other`",
    "model": "the served name of the base model, an adapter or an encoder, else `none`",
    "objective": "`availability`, `ttft`, `tpot`, `e2e`",
    "of": "`labels`, `scores` or `lengths`",
    "outcome": "`ok`, `invalid`, `refused`, `deadline`, `cancelled`, `error`; of reloads `ok` and "
    "`failed`, of keys `accepted` and `refused`; of lines `completed`, `failed`, `expired` and "
    "`cancelled`",
    "reason": "the error's code, of at most 32; of the quota store `timeout` and `error`",
    "result": "`compared` or `dropped`",
    "route": "a route's template, `unmatched`, or `internal`",
    "side": "`input` or `output`",
    "state": "`serving`, `unproven`, `quarantined`; of releases `shadow`, `canary`, `full`, "
    "`rolled_back`, `refused`",
    "service_tier": "`default` or `flex`",
    "task": "`embed`, `score` or `classify`",
    "status": "of a batch, as in OpenAI's API",
    "vllm": "the version of vLLM",
    "tenant": "a tenant's name, of the first `metrics.max_tenants`, else `other`",
    "verdict": "`clear`, `flagged`, `refused`, `redacted` (or refused, where no marker may stand), "
    "`failed` (and refused), `passed` (and not read)",
    "version": "of the service, or of an adapter",
}


class Series(NamedTuple):
    """One metric as it is declared."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def catalogue() -> list[Series]:
    """Every series that the service declares, by name."""
    registry = CollectorRegistry()
    Metrics(registry)
    AdapterMetrics(registry)
    TenantMetrics(registry)
    BatchMetrics(registry)
    GuardMetrics(registry)
    ReleaseMetrics(registry)
    FeedbackMetrics(registry)
    return sorted(_declared(registry))


def page() -> str:
    """The text of the page."""
    series = catalogue()
    used = sorted({label for each in series for label in each.labels})
    bounds = MetricsSettings()
    lines = [item(f"`{each.name}`{_brackets(each)}: {each.text}") for each in series]
    lines += ["", "## Labels", ""]
    lines += [item(f"`{label}`: {LABELS[label]}") for label in used]
    lines += [
        "",
        f"The first {bounds.max_tenants} tenants and {bounds.max_combinations} combinations of "
        "route, model, tenant and tier have series of their own; the rest counts as tenant `other` "
        "(`metrics.max_tenants`, `metrics.max_combinations`).",
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _brackets(series: Series) -> str:
    """What stands in brackets: whether it is a histogram, and the labels."""
    own = tuple(label for label in series.labels if label not in _OF_REQUESTS)
    labels = ("request", *own) if set(_OF_REQUESTS) <= set(series.labels) else series.labels
    parts = ("histogram" if series.kind == "histogram" else "", ", ".join(labels))
    return f" ({'; '.join(filter(None, parts))})" if any(parts) else ""


def _declared(registry: CollectorRegistry) -> Iterator[Series]:
    for family, collector in zip(
        [family for family in registry.collect()],
        list(registry._collector_to_names),
        strict=True,
    ):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = tuple(getattr(collector, "_labelnames", ()))
        yield Series(name, family.type, labels, family.documentation)
