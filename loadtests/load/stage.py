"""Stages of a run: parts that are measured separately, and the warm-up before them."""

from dataclasses import dataclass

WARMUP = "warmup"

ALONE, BESIDE = "alone", "beside"
"""The two halves of a run with background work: before it, and beside it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run from `start` on, in seconds; `factor` multiplies the arrivals' rate."""

    name: str
    start: float
    seconds: float
    factor: float = 1.0

    @property
    def end(self) -> float:
        return self.start + self.seconds


def row(parts: list[tuple[str, float, float]]) -> tuple[Stage, ...]:
    """Consecutive stages from names, seconds and factors; empty ones are left out."""
    stages: list[Stage] = []
    for name, seconds, factor in parts:
        if seconds > 0:
            stages.append(Stage(name, stages[-1].end if stages else 0.0, seconds, factor))
    return tuple(stages)
