"""Hits and misses of adapters' weights, and when they are counted."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.adapters.fleet import AdapterFleet
from service.adapters.metrics import AdapterMetrics
from service.adapters.registry import ServedVersion
from service.engine.contract import Adapter, AdapterUsage, Job, Sampling
from service.generation.fold import Fold
from service.models.base_model import ServedBase
from service.settings.tree import ModelSettings, Settings
from tests.adapters.proven import ASKED, proven, served_base, sources
from tests.fake_engines import fake_engine
from tests.live_service import MODEL


class Served:
    """A fleet with one adapter on a fake engine, and what its metrics say."""

    def __init__(self) -> None:
        self.engine, _ = fake_engine()
        self.metrics = CollectorRegistry()
        self.observer = AdapterMetrics(self.metrics)
        self.fleet = AdapterFleet(self.engine, MODEL, self.observer)

    @property
    def versions(self) -> dict[str, ServedVersion]:
        entries = self.fleet.registry.entries
        return {name: e for name, e in entries.items() if isinstance(e, ServedVersion)}

    @property
    def adapter(self) -> Adapter:
        return self.versions["sentiment"].adapter

    async def look(self) -> tuple[float | None, float | None]:
        await self.observer.observe_use(self.engine, self.versions)
        return self.value("hits_total"), self.value("misses_total")

    def value(self, name: str) -> float | None:
        return self.metrics.get_sample_value(f"inference_adapter_{name}", {"adapter": "sentiment"})


@pytest.fixture
async def served(tmp_path: Path, base_folder: Path) -> Served:
    base: ServedBase = served_base(base_folder)
    await proven(tmp_path / "a", base)
    found = Served()
    model = ModelSettings(name=MODEL, path=base_folder)
    cache = {"path": tmp_path / "cache"}
    settings = Settings(model=model, adapters=sources(tmp_path / "a"), adapter_cache=cache)
    await found.fleet.apply(settings)
    return found


async def _ask(served: Served) -> None:
    prompt = await served.engine.render("Hello")
    await served.engine.run(Job(prompt, Sampling(2), adapter=served.adapter), Fold())


async def test_its_own_proof_hits_what_was_loaded_for_it(served: Served) -> None:
    assert await served.look() == (ASKED, 0)
    assert served.value("resident") == 1
    assert await served.look() == (ASKED, 0)


async def test_a_request_for_an_evicted_adapter_is_a_miss_and_the_next_one_a_hit(
    served: Served,
) -> None:
    hits = ASKED
    await served.look()
    served.engine.raw.evict_adapter(served.adapter)
    await served.look()
    assert served.value("resident") == 0
    await _ask(served)
    assert await served.look() == (hits, 1)
    await _ask(served)
    await _ask(served)
    assert await served.look() == (hits + 2, 1)
    assert served.value("resident") == 1


async def test_requests_for_the_base_are_neither(served: Served) -> None:
    await served.look()
    prompt = await served.engine.render("Hello")
    await served.engine.run(Job(prompt, Sampling(2)), Fold())
    assert await served.look() == (ASKED, 0)


async def test_a_new_version_counts_on_under_its_name(
    served: Served, tmp_path: Path, base_folder: Path
) -> None:
    await served.look()
    await proven(tmp_path / "b", served_base(base_folder), version="1.1.0", seed=1)
    model = ModelSettings(name=MODEL, path=base_folder)
    cache = {"path": tmp_path / "cache"}
    settings = Settings(model=model, adapters=sources(tmp_path / "b"), adapter_cache=cache)
    await served.fleet.apply(settings)
    assert await served.look() == (2 * ASKED, 0)


async def test_a_read_that_is_seen_before_its_request_is_not_counted_twice(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = [(3, 0, 0.0), (3, 1, 0.5), (4, 1, 0.5), (6, 1, 0.5)]
    states = iter([AdapterUsage(*state) for state in usage])

    async def adapter_usage() -> Mapping[int, AdapterUsage]:
        return {served.adapter.engine_id: next(states)}

    monkeypatch.setattr(served.engine, "adapter_usage", adapter_usage)
    assert [await served.look() for _ in usage] == [(3, 0), (3, 1), (3, 1), (5, 1)]
    assert served.value("miss_seconds_total") == 0.5
