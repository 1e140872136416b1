"""A clock that a test moves on, so that a deadline passes at one point of the test."""

import time

import pytest


class Clock:
    """`time.monotonic`, of admission and of asyncio's loop, ahead by as much as it was moved on."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead

    def move_on(self, seconds: float) -> None:
        """Let these seconds pass at once; timers that are due run in the loop's next round."""
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(time, "monotonic", moved)
    return moved
