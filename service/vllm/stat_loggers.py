"""vLLM's stat loggers, which are called after every step of the engine."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vllm.v1.metrics.loggers import PrometheusStatLogger, StatLoggerBase

USES = (
    "extends vllm.v1.metrics.loggers:PrometheusStatLogger.record, record_admission_rejection, "
    "record_sleep_state",
    "extends vllm.v1.metrics.loggers:StatLoggerBase.record",
)


class StepClock:
    """A factory of vLLM stat loggers that record the time of each rank's last step.

    A rank without requests makes no step, so an idle rank is seen to work again only at its next
    step.
    """

    def __init__(self) -> None:
        self._stepped = {0: time.monotonic()}
        self._working: set[int] = set()

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        return _StepLogger(self, engine_index)

    @property
    def last_step(self) -> float:
        """Time of the last step, in seconds of `time.monotonic`.

        With several ranks, the oldest last step of those that have requests.
        """
        if len(self._stepped) > 1 and self._working:
            return min(self._stepped[rank] for rank in self._working)
        return max(self._stepped.values())

    def step(self, rank: int, scheduler: Any) -> None:
        """Record a step of a rank, with vLLM's statistics of its scheduler after the step."""
        self._stepped[rank] = time.monotonic()
        if scheduler is None:
            return
        if scheduler.num_running_reqs or scheduler.num_waiting_reqs:
            self._working.add(rank)
        else:
            self._working.discard(rank)


class _StepLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not followed by mypy
    def __init__(self, clock: StepClock, rank: int) -> None:
        self._clock = clock
        self._rank = rank

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        self._clock.step(self._rank, scheduler_stats)

    def log_engine_initialized(self) -> None:
        """Do nothing: vLLM would log a line."""


class NoSeries(PrometheusStatLogger):  # type: ignore[misc] # vLLM is not followed by mypy
    """A stat logger without series, for all engines but the model's.

    vLLM's series can belong to only one engine of a process: a second one would unregister those of
    the first.
    """

    def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None:
        """Register no series."""

    def record(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    record_sleep_state = record_admission_rejection = log_engine_initialized = record


class NamedAdapterStats(PrometheusStatLogger):  # type: ignore[misc] # vLLM is not followed by mypy
    """vLLM's own series, with adapters under the names that requests use.

    vLLM's names of adapters contain the digest of a version, but an endpoint picker looks for a
    request's `model` among the names in `vllm:lora_requests_info`.
    """

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        if scheduler_stats is not None:
            scheduler_stats = replace(
                scheduler_stats,
                running_lora_adapters=_by_request_name(scheduler_stats.running_lora_adapters),
                waiting_lora_adapters=_by_request_name(scheduler_stats.waiting_lora_adapters),
            )
        super().record(scheduler_stats, iteration_stats, mm_cache_stats, engine_idx)


def _by_request_name(adapters: Mapping[str, int]) -> dict[str, int]:
    """Requests by the adapter's name, those of two versions together (`Adapter.engine_name`)."""
    counts: Counter[str] = Counter()
    for name, requests in adapters.items():
        counts[name.rpartition("@")[0] or name] += requests
    return dict(counts)
