"""vLLM's stat loggers, which are called after every step of the engine."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vllm.v1.metrics.loggers import PrometheusStatLogger, StatLoggerBase

USES = (
    "extends vllm.v1.metrics.loggers:PrometheusStatLogger.record_admission_rejection",
    "extends vllm.v1.metrics.loggers:PrometheusStatLogger.record_sleep_state",
    "extends vllm.v1.metrics.loggers:StatLoggerBase.record",
)


@dataclass(slots=True)
class _Rank:
    stepped: float
    works: bool = False


class StepClock:
    """A factory of vLLM stat loggers that record the time of each rank's last step.

    A rank that has no requests makes no step. A rank that was idle is known to work from its next
    step on.
    """

    def __init__(self) -> None:
        self._ranks: dict[int, _Rank] = {}
        self.step()

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        return _StepLogger(self, engine_index)

    @property
    def last_step(self) -> float:
        """Time of the last step, in seconds of `time.monotonic`.

        Of several ranks, that of the one that has requests and has made no step for longest.
        """
        ranks = self._ranks.values()
        working = [each.stepped for each in ranks if each.works] if len(ranks) > 1 else []
        return min(working) if working else max(each.stepped for each in ranks)

    def step(self) -> None:
        """Record a step of the only rank."""
        self.note(0, None)

    def note(self, rank: int, scheduler: Any) -> None:
        """Record a step of a rank, with vLLM's statistics of its scheduler after the step."""
        known = self._ranks.setdefault(rank, _Rank(0.0))
        known.stepped = time.monotonic()
        if scheduler is not None:
            known.works = bool(scheduler.num_running_reqs or scheduler.num_waiting_reqs)


class _StepLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not followed by mypy
    def __init__(self, clock: StepClock, rank: int) -> None:
        self._clock = clock
        self._rank = rank

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        self._clock.note(self._rank, scheduler_stats)

    def log_engine_initialized(self) -> None:
        """Log no line."""


class NamedAdapterStats(PrometheusStatLogger):  # type: ignore[misc] # vLLM is not followed by mypy
    """vLLM's own series, with adapters under the names that requests give.

    vLLM knows them by names with the digest of a version. An endpoint picker looks for a request's
    `model` among those of `vllm:lora_requests_info`.
    """

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Record a step."""
        if scheduler_stats is not None:
            scheduler_stats = replace(
                scheduler_stats,
                running_lora_adapters=_by_request_name(scheduler_stats.running_lora_adapters),
                waiting_lora_adapters=_by_request_name(scheduler_stats.waiting_lora_adapters),
            )
        super().record(scheduler_stats, iteration_stats, mm_cache_stats, engine_idx)


def step_logger(clock: StepClock) -> type[PrometheusStatLogger]:
    """A stat logger that reports each step to the clock, in place of vLLM's Prometheus one.

    vLLM's would unregister the `vllm:*` series of the engine that was started before: the series
    have one owner in a process.
    """

    class StepLogger(PrometheusStatLogger):  # type: ignore[misc] # vLLM is not followed by mypy
        def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None:
            """Register no series."""

        def record(self, *_: Any, **__: Any) -> None:
            clock.step()

        def record_sleep_state(self, *_: Any, **__: Any) -> None:
            """Count nothing."""

        def record_admission_rejection(self, *_: Any, **__: Any) -> None:
            """Count nothing."""

        def log_engine_initialized(self) -> None:
            """Log no line."""

    return StepLogger


def _by_request_name(adapters: Mapping[str, int]) -> dict[str, int]:
    """Requests by the adapter's name, those of two versions together (`Adapter.engine_name`)."""
    counts: Counter[str] = Counter()
    for name, requests in adapters.items():
        counts[name.rpartition("@")[0] or name] += requests
    return dict(counts)
