"""Pages that a scraper is given, and the cost of a scrape to the requests."""

import sys
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from loadtests.processes import PATIENCE_S
from service.context import Ending, RequestTrace, StreamTrace
from service.telemetry.metrics import Metrics
from service.telemetry.series import expose
from tests.telemetry.contexts import ended_request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS = f"{OPENMETRICS};q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Traced:
    """Implements `context.RequestTrace`, and does nothing."""

    trace_id = TRACE_ID
    headers: Mapping[str, str] = MappingProxyType({})
    response_header = ""

    def stream(self) -> StreamTrace | None:
        return None

    def ended(self, context: object, ending: Ending) -> None:
        pass


def scraped(trace: RequestTrace | None, accept: str) -> tuple[str, str]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    context = ended_request(trace=trace)
    metrics.first_token(context, 0.2)
    metrics.count_request(context, Ending("ok", 200))
    body, content_type = expose(registry, accept)
    return body.decode(), content_type


def test_openmetrics_leads_from_a_sample_to_its_trace() -> None:
    text, content_type = scraped(Traced(), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    found = {
        sample.name: sample.exemplar
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert {
        "inference_time_to_first_token_seconds_bucket",
        "inference_request_duration_seconds_bucket",
        "inference_requests_total",
    } <= found.keys()
    assert {exemplar.labels["trace_id"] for exemplar in found.values()} == {TRACE_ID}


def test_without_a_trace_or_openmetrics_there_are_none() -> None:
    assert " # {" not in scraped(None, OPENMETRICS)[0]
    text, content_type = scraped(Traced(), "")
    assert content_type.startswith("text/plain")
    assert TRACE_ID not in text


@pytest.mark.parametrize("accept", ["", PROMETHEUS, OPENMETRICS, "text/plain;version=1.0.0"])
def test_the_engines_series_keep_their_names(accept: str) -> None:
    registry = CollectorRegistry()
    Gauge("vllm:kv_cache_usage_perc", "Of the engine.", ["engine"], registry=registry).labels("0")
    assert b'vllm:kv_cache_usage_perc{engine="0"} 0.0' in expose(registry, accept)[0]


def test_a_scrape_gives_way_to_other_threads() -> None:
    seen = []

    class Witness(Collector):
        def collect(self) -> Iterator[Metric]:
            seen.append(sys.getswitchinterval())
            return iter(())

    registry = CollectorRegistry()
    registry.register(Witness())
    before = sys.getswitchinterval()
    seen.clear()
    expose(registry, "")
    assert seen
    assert all(interval <= before / 5 for interval in seen)
    assert sys.getswitchinterval() == before


def test_scrapes_that_overlap_leave_the_interpreter_as_it_was() -> None:
    class Slow(Collector):
        def __init__(self) -> None:
            self.entered, self.released = threading.Event(), threading.Event()

        def collect(self) -> Iterator[Metric]:
            self.entered.set()
            self.released.wait(PATIENCE_S)
            return iter(())

        def describe(self) -> Iterator[Metric]:
            return iter(())

    before = sys.getswitchinterval()
    slow = Slow(), Slow()
    scrapes = []
    for collector in slow:
        registry = CollectorRegistry()
        registry.register(collector)
        scrapes.append(threading.Thread(target=expose, args=(registry, "")))
    scrapes[0].start()
    assert slow[0].entered.wait(PATIENCE_S)
    scrapes[1].start()
    slow[1].entered.wait(0.2)  # if they may overlap, they do
    for collector, scrape in zip(slow, scrapes, strict=True):
        collector.released.set()
        scrape.join(PATIENCE_S)
    try:
        assert sys.getswitchinterval() == before
    finally:
        sys.setswitchinterval(before)
