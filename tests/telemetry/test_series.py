"""Series of the service's own kind."""

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry.series import TOKEN_LATENCY, SeriesFactory


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.0011, 0.5, 5.0, 6.0])
def test_many_samples_at_once_count_as_many_one_by_one(seconds: float) -> None:
    registry = CollectorRegistry()
    make = SeriesFactory(registry)
    tally = make.tally("many", "Many.", TOKEN_LATENCY, "route")
    single = make.seconds("single", "Single.", TOKEN_LATENCY, "route")
    tally["/a",].observe_many(seconds, 3)
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
