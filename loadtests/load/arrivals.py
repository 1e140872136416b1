"""Arrival processes: the times at which requests are due, in seconds from the start.

No process rescales its arrivals to fill the duration: the number of arrivals in it is random, and
rescaled arrivals would not be a Poisson process.
"""

from collections.abc import Callable
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Times = NDArray[np.float64]


class Process(BaseModel):
    """An arrival process of a mean rate in requests per second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: PositiveFloat

    def scaled(self, factor: float) -> Self:
        """The same process at `factor` times the rate."""
        return self.model_copy(update={"rate": self.rate * factor})

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        """Sorted instants in [0, duration)."""
        raise NotImplementedError


class Constant(Process):
    """One request every 1/rate seconds, the first at zero."""

    process: Literal["constant"] = "constant"

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        count = int(np.ceil(round(duration * self.rate, 9)))
        return np.arange(count, dtype=np.float64) / self.rate


class Poisson(Process):
    """Independent users: exponential gaps."""

    process: Literal["poisson"] = "poisson"

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        return _renewal(duration, self.rate, lambda n: rng.exponential(1 / self.rate, n))


class Gamma(Process):
    """Gamma gaps with coefficient of variation `cv`: 1 is Poisson, more is burstier."""

    process: Literal["gamma"] = "gamma"
    cv: PositiveFloat

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        shape = self.cv**-2
        scale = 1 / (self.rate * shape)
        return _renewal(duration, self.rate, lambda n: rng.gamma(shape, scale, n))


class OnOff(Process):
    """Poisson bursts and silences of exponential length (an interrupted Poisson process).

    `duty` is the share of time spent in bursts, and `cv` the coefficient of variation of the gaps
    between requests; the lengths of bursts and silences follow from the closed form of Kuczura
    (1973), cv^2 = 1 + 2 * rate_on * w_on / (w_on + w_off)^2.
    """

    process: Literal["on_off"] = "on_off"
    cv: float = Field(gt=1)
    duty: float = Field(default=0.1, gt=0, lt=1)

    @property
    def on_s(self) -> float:
        """Mean length of a burst, in seconds."""
        return (self.cv**2 - 1) * self.duty / (2 * self.rate * (1 - self.duty) ** 2)

    @property
    def off_s(self) -> float:
        """Mean length of a silence, in seconds."""
        return self.on_s * (1 - self.duty) / self.duty

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        bursts: list[Times] = []
        on = bool(rng.random() < self.duty)
        start = 0.0
        while start < duration:
            length = float(rng.exponential(self.on_s if on else self.off_s))
            if on:
                count = int(rng.poisson(length * self.rate / self.duty))
                bursts.append(np.sort(start + rng.random(count) * length))
            start += length
            on = not on
        times = np.concatenate(bursts) if bursts else np.empty(0)
        return times[times < duration]


class Ramp(Process):
    """A Poisson process whose rate moves linearly from `rate` to `to` over the duration."""

    process: Literal["ramp"] = "ramp"
    to: PositiveFloat

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"rate": self.rate * factor, "to": self.to * factor})

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        total = duration * (self.rate + self.to) / 2
        unit = _renewal(total, 1.0, lambda n: rng.exponential(1.0, n))
        slope = (self.to - self.rate) / duration
        if abs(slope) < 1e-12:
            return unit / self.rate
        # Time change of a process of rate 1: solve rate*t + slope*t^2/2 = its instants for t.
        return (np.sqrt(self.rate**2 + 2 * slope * unit) - self.rate) / slope


class Steps(Process):
    """A Poisson process that takes each of `factors` times `rate` for an equal share of time."""

    process: Literal["steps"] = "steps"
    factors: tuple[PositiveFloat, ...] = Field(min_length=1)

    def times(self, duration: float, rng: np.random.Generator) -> Times:
        each = duration / len(self.factors)
        parts = [
            position * each + Poisson(rate=self.rate * factor).times(each, rng)
            for position, factor in enumerate(self.factors)
        ]
        return np.concatenate(parts)


Arrivals = Annotated[
    Constant | Poisson | Gamma | OnOff | Ramp | Steps, Field(discriminator="process")
]


def _renewal(duration: float, rate: float, gaps: Callable[[int], Times]) -> Times:
    """Instants from gaps that are summed until they exceed the duration."""
    block = max(16, int(duration * rate * 1.2))
    times = np.cumsum(gaps(block))
    while times[-1] < duration:
        times = np.concatenate([times, times[-1] + np.cumsum(gaps(block))])
    return times[times < duration]
