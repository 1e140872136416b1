"""Counters that alerts watch for their first increase are there, at 0, before it."""

from prometheus_client import CollectorRegistry

from service.adapters.metrics import AdapterMetrics
from service.context import Ending, Times
from service.telemetry.lifecycle import TenantMetrics
from service.telemetry.metrics import Metrics
from tests.telemetry.contexts import ended_request


def test_reloads_and_the_quota_store_are_shown_from_the_start() -> None:
    registry = CollectorRegistry()
    AdapterMetrics(registry)
    TenantMetrics(registry)
    for name, label, values in (
        ("inference_adapter_reloads_total", "outcome", ("ok", "failed")),
        ("inference_key_reloads_total", "outcome", ("accepted", "refused")),
        ("inference_quota_store_errors_total", "reason", ("timeout", "error")),
    ):
        assert [registry.get_sample_value(name, {label: value}) for value in values] == [0, 0]


def test_a_model_that_never_missed_shows_that_it_did_not() -> None:
    registry = CollectorRegistry()
    Metrics(registry).count_request(ended_request(times=Times(first_token=0.1)), Ending("ok", 200))
    key = {"route": "/v1/generate", "model": "m", "tenant": "acme", "service_tier": "default"}
    missed = key | {"objective": "availability"}
    assert registry.get_sample_value("inference_slo_misses_total", missed) == 0
    assert registry.get_sample_value("inference_goodput_total", key) == 1
