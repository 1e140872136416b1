"""Series of the service's own kind."""

import threading

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry.series import TOKEN_LATENCY, SeriesFactory


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.0011, 0.5, 5.0, 6.0])
def test_many_samples_at_once_count_as_many_one_by_one(seconds: float) -> None:
    registry = CollectorRegistry()
    make = SeriesFactory(registry)
    tally = make.tally("many", "Many.", TOKEN_LATENCY, "route")
    single = make.histogram("single_seconds", "Single.", TOKEN_LATENCY, "route")
    tally["/a",].add(seconds, 3)
    for _ in range(3):
        single["/a",].observe(seconds)

    def samples(name: str) -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name.removeprefix(f"inference_{name}"), sample.labels, sample.value)
            for family in registry.collect()
            for sample in family.samples
            if sample.name.startswith(f"inference_{name}") and not sample.name.endswith("_created")
        ]

    assert samples("many") == samples("single")


def test_samples_added_while_another_thread_reads_are_each_counted_once() -> None:
    registry = CollectorRegistry()
    tally = SeriesFactory(registry).tally("many", "Many.", TOKEN_LATENCY)[()]
    counts: list[float] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            counts.append(registry.get_sample_value("inference_many_seconds_count") or 0.0)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50_000):
        tally.add(0.02)
    done.set()
    reader.join()
    assert counts == sorted(counts)
    assert registry.get_sample_value("inference_many_seconds_count") == 50_000
