"""vLLM's statistics of an encoder: only the time of its last step is kept."""

from typing import Any

from vllm.v1.metrics.loggers import PrometheusStatLogger

from service.vllm.step_clock import StepClock


def step_logger(clock: StepClock) -> type[PrometheusStatLogger]:
    """A stat logger that tells the clock of each step and stands in for vLLM's Prometheus one.

    That one would take the `vllm:*` series of the engine that was started before out of the
    registry: the series have one owner in a process.
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
