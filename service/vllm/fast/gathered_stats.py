"""vLLM's Prometheus series, updated for several steps at once."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from threading import Lock
from typing import Any, NamedTuple

from prometheus_client import REGISTRY, Histogram
from prometheus_client.registry import Collector
from vllm.v1.metrics.stats import IterationStats, PrefixCacheStats, PromptTokenStats

from service.common.counting import observe_all
from service.vllm.stat_loggers import NamedAdapterStats

USES = (
    "extends vllm.v1.metrics.loggers:PrometheusStatLogger.__init__",
    "reads vllm.v1.metrics.loggers:PrometheusStatLogger.histogram_iteration_tokens",
    "extends vllm.v1.metrics.loggers:PrometheusStatLogger.record",
    "fields of vllm.v1.metrics.stats:IterationStats.__init__",
    "fields of vllm.v1.metrics.stats:PrefixCacheStats",
    "fields of vllm.v1.metrics.stats:PromptTokenStats",
    "fields of vllm.v1.metrics.stats:SchedulerStats",
)

_SECONDS = 2.0
"""Longest time for which a step is held back."""
_MOST = 128
"""Most steps that are held back."""


class _BeforeReading(Collector):
    """A collector without series, called before the others when the registry is read."""

    def __init__(self) -> None:
        self.call: Callable[[], None] = lambda: None

    def collect(self) -> Iterable[Any]:
        self.call()
        return ()

    def describe(self) -> Iterable[Any]:
        return ()


_before_reading = _BeforeReading()
# A registry is read in the order of registration, and vLLM's series are registered later.
REGISTRY.register(_before_reading)


class _Step(NamedTuple):
    scheduler: Any
    iteration: Any
    engine: int


def _key(step: _Step) -> object:
    """Equal for steps that may be recorded as one."""
    stats = step.scheduler
    if stats is None:
        return (step.engine,)
    special = (
        stats.connector_prefix_cache_stats
        or stats.kv_cache_eviction_events
        or stats.spec_decoding_stats
        or stats.kv_connector_stats
        or stats.ec_connector_stats
        or stats.perf_stats
    )
    # Each pair of these has a series of its own.
    adapters = (*stats.running_lora_adapters, None, *stats.waiting_lora_adapters)
    return object() if special else (step.engine, *adapters)


class GatheredStats(NamedAdapterStats):
    """A stat logger for vLLM's series that records steps two seconds later, many as one.

    vLLM's own takes some 60 calls a step, and one more for each token. The values are the same:
    steps that are held back are recorded before the registry is read.
    """

    def __init__(self, vllm_config: Any, engine_indexes: list[int] | None = None) -> None:
        super().__init__(vllm_config, engine_indexes)
        self._lock = Lock()
        self._held: list[_Step] = []
        self._timer: asyncio.TimerHandle | None = None
        self._samples = [each for series in vars(self).values() for each in _gathering(series)]
        _before_reading.call = self.settle

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        with self._lock:
            self._held.append(_Step(scheduler_stats, iteration_stats, engine_idx))
        if len(self._held) >= _MOST:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._on_time)

    def settle(self) -> None:
        """Record the steps that are held back; may be called by any thread."""
        with self._lock:
            held, self._held = self._held, []
            for _, steps in groupby(held, key=_key):
                self._record(list(steps))

    def _on_time(self) -> None:
        self._timer = None
        self.settle()

    def _record(self, steps: list[_Step]) -> None:
        engine = steps[-1].engine
        iterations = [step.iteration for step in steps if step.iteration is not None]
        merged = _merged(iterations) if iterations else None
        super().record(_scheduled(steps), merged, engine_idx=engine)
        # One sample for each step, not for all together, counted as vLLM counts them.
        self.histogram_iteration_tokens[engine].amounts[:] = [
            each.prompt_token_stats.computed + each.num_generation_tokens for each in iterations
        ]
        for each in self._samples:
            each.settle()


class _Samples:
    """Stands in for a histogram: collects samples, which `settle` observes all at once."""

    def __init__(self, histogram: Histogram) -> None:
        self.amounts: list[float] = []
        self.observe = self.amounts.append
        self._histogram = histogram

    def settle(self) -> None:
        if self.amounts:
            observe_all(self._histogram, self.amounts)
            self.amounts.clear()


def _gathering(series: object) -> list[_Samples]:
    """Replace a series' histograms, one for each engine, by stand-ins, and return these."""
    if not isinstance(series, dict):
        return []
    found = {key: _Samples(each) for key, each in series.items() if isinstance(each, Histogram)}
    series.update(found)
    return list(found.values())


def _scheduled(steps: list[_Step]) -> Any:
    """The scheduler's statistics after the last step, with all steps' prefix cache counts."""
    stats = [step.scheduler for step in steps if step.scheduler is not None]
    if not stats:
        return None
    counts = PrefixCacheStats(
        queries=sum(each.prefix_cache_stats.queries for each in stats),
        hits=sum(each.prefix_cache_stats.hits for each in stats),
    )
    return replace(stats[-1], prefix_cache_stats=counts)


def _merged(iterations: list[IterationStats]) -> IterationStats:
    merged = IterationStats()
    for each in iterations:
        _add(merged, each)
    return merged


def _add(into: Any, more: Any) -> None:
    for name, value in vars(more).items():
        if not value:
            continue
        present = getattr(into, name)
        if isinstance(value, list):
            present.extend(value)
        elif isinstance(value, PromptTokenStats):
            _add(present, value)
        elif name != "iteration_timestamp":
            setattr(into, name, present + value)
