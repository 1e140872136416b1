"""Choice of an adapter and a tenant for each request."""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterChoice(_Model):
    """A rule that picks one of `names` (served model names) for a request due at `at` seconds."""

    names: tuple[str, ...] = Field(min_length=1)

    def pick(self, at: float, rng: np.random.Generator) -> str:
        raise NotImplementedError


class One(AdapterChoice):
    """Always the first name."""

    choice: Literal["one"] = "one"

    def pick(self, at: float, rng: np.random.Generator) -> str:
        return self.names[0]


class UniformChoice(AdapterChoice):
    """Every name with the same probability."""

    choice: Literal["uniform"] = "uniform"

    def pick(self, at: float, rng: np.random.Generator) -> str:
        return self.names[int(rng.integers(len(self.names)))]


class Weighted(AdapterChoice):
    """Names in proportion to `weights`."""

    choice: Literal["weighted"] = "weighted"
    weights: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.weights) != len(self.names):
            raise ValueError(
                f"weights must match names, got {len(self.weights)} weights, "
                f"{len(self.names)} names"
            )
        return self

    def pick(self, at: float, rng: np.random.Generator) -> str:
        return self.names[_draw(np.asarray(self.weights), rng)]


class Zipf(AdapterChoice):
    """The k-th name in proportion to k ** -exponent: a few names get most of the requests."""

    choice: Literal["zipf"] = "zipf"
    exponent: PositiveFloat = 1.0

    def pick(self, at: float, rng: np.random.Generator) -> str:
        ranks = np.arange(1, len(self.names) + 1, dtype=np.float64)
        return self.names[_draw(ranks**-self.exponent, rng)]


class Churn(AdapterChoice):
    """Only `active` names at a time; every `period_s` seconds the next replaces the oldest."""

    choice: Literal["churn"] = "churn"
    active: PositiveInt
    period_s: PositiveFloat

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.active > len(self.names):
            raise ValueError(
                f"active must be at most {len(self.names)} (the names), got {self.active}"
            )
        return self

    def pick(self, at: float, rng: np.random.Generator) -> str:
        oldest = int(at // self.period_s)
        return self.names[(oldest + int(rng.integers(self.active))) % len(self.names)]


Adapters = Annotated[One | UniformChoice | Weighted | Zipf | Churn, Field(discriminator="choice")]


class Tenant(_Model):
    """A caller: its key, its share of the traffic, and its weight in the server's configuration."""

    name: str
    key_env: str | None = Field(
        default=None, description="Environment variable that holds the key; keys are never in files"
    )
    share: PositiveFloat = 1.0
    weight: PositiveFloat = 1.0


def pick_tenant(tenants: tuple[Tenant, ...], rng: np.random.Generator) -> Tenant:
    """A tenant in proportion to the shares."""
    return tenants[_draw(np.asarray([tenant.share for tenant in tenants]), rng)]


def _draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
