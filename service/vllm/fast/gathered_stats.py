"""vLLM's Prometheus series, updated for several steps at once."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from threading import Lock
from typing import Any

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


@dataclass(slots=True)
class _Step:
    scheduler: Any
    iteration: Any
    cache: Any
    engine: int

    @property
    def key(self) -> object:
        """Equal for steps that may be recorded as one; None for one that may not."""
        stats = self.scheduler
        if self.cache is not None:
            return None
        if stats is None:
            return (self.engine,)
        special = (
            stats.connector_prefix_cache_stats
            or stats.kv_cache_eviction_events
            or stats.spec_decoding_stats
            or stats.kv_connector_stats
            or stats.ec_connector_stats
            or stats.perf_stats
        )
        if special:
            return None
        # Each pair of these has a series of its own.
        adapters = (*stats.running_lora_adapters, None, *stats.waiting_lora_adapters)
        return (self.engine, *adapters)


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
        """Hold a step back."""
        with self._lock:
            self._held.append(_Step(scheduler_stats, iteration_stats, mm_cache_stats, engine_idx))
        if len(self._held) >= _MOST:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._on_time)

    def settle(self) -> None:
        """Record the steps that are held back; may be called by any thread."""
        with self._lock:
            held, self._held = self._held, []
            for steps in _groups(held):
                self._record(steps)

    def _on_time(self) -> None:
        self._timer = None
        self.settle()

    def _record(self, steps: list[_Step]) -> None:
        last = steps[-1]
        iterations = [step.iteration for step in steps if step.iteration is not None]
        merged = _merged(iterations) if iterations else None
        super().record(_scheduled(steps), merged, last.cache, last.engine)
        if merged is not None:
            # One sample for each step, not for all together.
            tokens = self.histogram_iteration_tokens[last.engine].amounts
            tokens[:] = [_tokens(each) for each in iterations]
        for each in self._samples:
            each.settle()


def _tokens(iteration: IterationStats) -> int:
    """Tokens of one step, as `PrometheusStatLogger.record` counts them."""
    made: int = iteration.prompt_token_stats.computed + iteration.num_generation_tokens
    return made


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


def _groups(steps: list[_Step]) -> Iterator[list[_Step]]:
    """The steps in order, grouped by what may be recorded as one."""
    for key, group in groupby(steps, key=lambda step: step.key):
        if key is None:
            yield from ([step] for step in group)
        else:
            yield list(group)


def _scheduled(steps: list[_Step]) -> Any:
    """The scheduler's statistics after the last step, with all steps' prefix cache counts."""
    stats = [step.scheduler for step in steps if step.scheduler is not None]
    if not stats:
        return None
    last = stats[-1]
    counts = PrefixCacheStats(
        queries=sum(each.prefix_cache_stats.queries for each in stats),
        hits=sum(each.prefix_cache_stats.hits for each in stats),
    )
    return replace(last, prefix_cache_stats=counts if len(stats) > 1 else last.prefix_cache_stats)


def _merged(iterations: list[IterationStats]) -> IterationStats:
    if len(iterations) == 1:
        return iterations[0]
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
