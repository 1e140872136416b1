"""Running and waiting streams of the mock engine, instead of vLLM's scheduler."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from vllm.v1.metrics.stats import SchedulerStats

from tools.mock_engine.stream import Stream


class StreamQueue:
    """Streams in the order in which they came, `most` of them running."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Stream] = deque()
        self._running: dict[str, Stream] = {}
        self._paused: Any = None

    def add(self, stream: Stream) -> None:
        """Queue a stream for its first step."""
        self._waiting.append(stream)

    def next(self) -> list[Stream]:
        """The streams of the next step."""
        while self._waiting and len(self._running) < self._most:
            stream = self._waiting.popleft()
            stream.scheduled()
            self._running[stream.id] = stream
        return list(self._running.values())

    def end(self, stream: Stream) -> None:
        """Forget a stream that runs."""
        del self._running[stream.id]

    def stats(self) -> SchedulerStats:
        """Counts that vLLM's scheduler reports of a step."""
        running = len(self._running)
        return SchedulerStats(running, len(self._waiting), kv_cache_usage=running / self._most)

    # Methods that vLLM's engine process calls on its scheduler.

    def has_requests(self) -> bool:
        """True if there is a step to make."""
        return bool(self._running or self._waiting)

    def get_num_unfinished_requests(self) -> int:
        """Number of streams that run or wait."""
        return len(self._running) + len(self._waiting)

    def get_request_counts(self) -> tuple[int, int]:
        """Numbers of streams that run and that wait."""
        return len(self._running), len(self._waiting)

    def finish_requests(self, ids: Iterable[str] | None, status: Any) -> list[Stream]:
        """Forget these streams, or all; returns those that it had."""
        everything = [*self._running.values(), *self._waiting]
        wanted = None if ids is None else set(ids)
        gone = [each for each in everything if wanted is None or each.id in wanted]
        for stream in gone:
            if self._running.pop(stream.id, None) is None:
                self._waiting.remove(stream)
        return gone

    def get_kv_event_publisher_config(self) -> None:
        """Nothing is published."""

    def shutdown(self) -> None:
        """Nothing to release."""
