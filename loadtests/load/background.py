"""Background work beside a scenario's load, and limits on how much it may slow the load."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from loadtests.load.choice import Tenant
from loadtests.load.workloads import AnyWorkload


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slowdown(_Model):
    """Limits of the 95th percentiles beside background work, as multiples of those without it."""

    ttft_p95: PositiveFloat = 1.1
    tpot_p95: PositiveFloat = 1.1


class _Background(_Model):
    workload: AnyWorkload
    slowdown: Slowdown = Slowdown()

    @property
    def label(self) -> str:
        """Name of the work in the results."""
        return self.workload.label


class Users(_Background):
    """Users who send one request after the other; each must be answered."""

    kind: Literal["users"] = "users"
    users: PositiveInt


class Batch(_Background):
    """One batch of `lines` lines, uploaded when its stage begins; each must be answered once."""

    kind: Literal["batch"] = "batch"
    lines: PositiveInt


class Neighbour(_Background):
    """Another tenant, whose requests arrive at planned times and may be refused.

    `rates` are its requests per second in the first and in the second half of the run.
    """

    kind: Literal["neighbour"] = "neighbour"
    tenant: Tenant
    rates: tuple[PositiveFloat, PositiveFloat]


Background = Annotated[Users | Batch | Neighbour, Field(discriminator="kind")]
