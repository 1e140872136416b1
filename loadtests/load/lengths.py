"""Distributions of the number of tokens of a prompt or an answer."""

from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

_STANDARD_NORMAL = NormalDist()


class Distribution(BaseModel):
    """A distribution over positive whole numbers of tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def sample(self, rng: np.random.Generator) -> int:
        """One length, at least 1."""
        raise NotImplementedError


class Fixed(Distribution):
    """Always the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: PositiveInt

    def sample(self, rng: np.random.Generator) -> int:
        return self.tokens


class Uniform(Distribution):
    """Every whole number from `low` to `high`, both included."""

    kind: Literal["uniform"] = "uniform"
    low: PositiveInt
    high: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got low={self.low}, high={self.high}")
        return self

    def sample(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.low, self.high + 1))


class Quantiles(Distribution):
    """A heavy-tailed distribution that has exactly the given median, p90 and p99.

    The logarithm of the length is a piecewise linear function of the normal score: one line through
    p50 and p90, one through p90 and p99, both continued outwards. (A single line would be the
    log-normal distribution.) Lengths above `longest` become `longest`.
    """

    kind: Literal["quantiles"] = "quantiles"
    p50: PositiveFloat
    p90: PositiveFloat
    p99: PositiveFloat
    longest: PositiveInt = 131_072

    @model_validator(mode="after")
    def _ordered(self) -> "Quantiles":
        if not self.p50 < self.p90 < self.p99:
            raise ValueError(
                f"quantiles must rise, got p50={self.p50}, p90={self.p90}, p99={self.p99}"
            )
        return self

    def sample(self, rng: np.random.Generator) -> int:
        return self.at(_STANDARD_NORMAL.cdf(float(rng.standard_normal())))

    def at(self, probability: float) -> int:
        """The quantile of the lengths at this probability."""
        z = _STANDARD_NORMAL.inv_cdf(min(max(probability, 1e-9), 1 - 1e-9))
        z90, z99 = _STANDARD_NORMAL.inv_cdf(0.9), _STANDARD_NORMAL.inv_cdf(0.99)
        low, middle, high = np.log([self.p50, self.p90, self.p99])
        if z <= z90:
            logarithm = low + (middle - low) * z / z90
        else:
            logarithm = middle + (high - middle) * (z - z90) / (z99 - z90)
        return int(min(max(round(float(np.exp(logarithm))), 1), self.longest))


class Profile(Distribution):
    """A published trace's lengths by name, `side` input or output; scaled to fit small models."""

    kind: Literal["profile"] = "profile"
    name: Literal["azure-code", "azure-chat", "mooncake-chat"]
    side: Literal["input", "output"]
    scale: PositiveFloat = 1.0
    longest: PositiveInt = 131_072

    def sample(self, rng: np.random.Generator) -> int:
        return self.quantiles().sample(rng)

    def quantiles(self) -> Quantiles:
        """The trace's measured p50, p90 and p99, times the scale."""
        p50, p90, p99 = (value * self.scale for value in _TRACES[self.name][self.side])
        return Quantiles(p50=p50, p90=p90, p99=p99, longest=self.longest)


# Measured on the Azure LLM inference traces of 2023 and the Mooncake conversation trace.
_TRACES: dict[str, dict[str, tuple[int, int, int]]] = {
    "azure-code": {"input": (1469, 5194, 7436), "output": (13, 55, 252)},
    "azure-chat": {"input": (1020, 2735, 4142), "output": (129, 424, 601)},
    "mooncake-chat": {"input": (6909, 27367, 85401), "output": (350, 597, 1120)},
}

Lengths = Annotated[Fixed | Uniform | Quantiles | Profile, Field(discriminator="kind")]
