"""Time of the last step of vLLM's engine."""

import time
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


class StepClock:
    """A factory of vLLM stat loggers, which are called after every step of the engine.

    `last_step` is in seconds of `time.monotonic`.
    """

    last_step: float

    def __init__(self) -> None:
        self.step()

    def step(self) -> None:
        """Note a step that was made now."""
        self.last_step = time.monotonic()

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        return _StepLogger(self)


class _StepLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not followed by mypy
    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def record(self, *_: Any, **__: Any) -> None:
        self._clock.step()

    def log_engine_initialized(self) -> None:
        """Log no line."""
