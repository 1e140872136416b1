"""The ranks of an engine: the copies of a model behind one client of vLLM.

vLLM's client sends each request to one rank, and each control call to all of them.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from service.vllm.stat_loggers import StepClock


@dataclass(slots=True)
class _Rank:
    stepped: float
    works: bool = False


class RankClock(StepClock):
    """The time of the last step, of the rank that has requests and stands still for longest.

    A rank that has none makes no step. One that got its first request since says so with its next
    step.
    """

    def __init__(self) -> None:
        self._ranks: dict[int, _Rank] = {}
        super().__init__()

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        return _RankLogger(self, engine_index)

    @property
    def last_step(self) -> float:
        """In seconds of `time.monotonic`."""
        ranks = self._ranks.values()
        working = [each.stepped for each in ranks if each.works] if len(ranks) > 1 else []
        return min(working) if working else max((each.stepped for each in ranks), default=0.0)

    @last_step.setter
    def last_step(self, now: float) -> None:
        self._ranks.setdefault(0, _Rank(now)).stepped = now

    def note(self, rank: int, scheduler: Any) -> None:
        """Note a step of a rank, with vLLM's statistics of its scheduler after it."""
        known = self._ranks.setdefault(rank, _Rank(0.0))
        known.stepped = time.monotonic()
        if scheduler is not None:
            known.works = bool(scheduler.num_running_reqs or scheduler.num_waiting_reqs)


class _RankLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not followed by mypy
    def __init__(self, clock: RankClock, rank: int) -> None:
        self._clock = clock
        self._rank = rank

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        self._clock.note(self._rank, scheduler_stats)

    def log_engine_initialized(self) -> None:
        """Log no line."""


class OnRank:
    """vLLM's client, whose generations all go to one rank."""

    def __init__(self, llm: Any, rank: int | None) -> None:
        self._llm = llm
        self._rank = rank

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """As AsyncLLM's."""
        found: AsyncGenerator[Any, None] = self._llm.generate(
            *arguments, **options, data_parallel_rank=self._rank
        )
        return found


def on_each_rank(llm: Any) -> list[OnRank]:
    """The client for each rank that it reaches: one, unless vLLM balances several behind it."""
    parallel = llm.vllm_config.parallel_config
    if parallel.data_parallel_external_lb or parallel.data_parallel_size == 1:
        return [OnRank(llm, None)]
    return [OnRank(llm, rank) for rank in range(parallel.data_parallel_size)]
