"""Load of this process: requests in flight and share of a core, sampled."""

from time import perf_counter, process_time

from loadtests.analysis.run import Sample


class Meter:
    """Counts requests in flight independently of their records, as a cross-check."""

    def __init__(self, worker: int, start: float) -> None:
        self._worker = worker
        self._start = start
        self.in_flight = 0
        self._area = 0.0
        self._changed = self._sampled = perf_counter()
        self._cpu = process_time()

    def enter(self) -> None:
        self._move()
        self.in_flight += 1

    def leave(self) -> None:
        self._move()
        self.in_flight -= 1

    def sample(self) -> Sample:
        """Means since the last sample."""
        now = self._move()
        cpu = process_time()
        seconds = max(now - self._sampled, 1e-9)
        sample = Sample(
            worker=self._worker,
            at=now - self._start,
            seconds=seconds,
            cpu=round((cpu - self._cpu) / seconds, 4),
            in_flight=round(self._area / seconds, 4),
        )
        self._area, self._sampled, self._cpu = 0.0, now, cpu
        return sample

    def _move(self) -> float:
        now = perf_counter()
        self._area += self.in_flight * (now - self._changed)
        self._changed = now
        return now
