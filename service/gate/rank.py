"""Ranks of requests in vLLM's engine: its priorities, of which the smallest is served first."""

from enum import IntEnum
from typing import Self

from service.tenants.tenant import Tier


class Rank(IntEnum):
    """Priority of a request by the share that its tenant holds, and by its tier.

    Prompts are read in this order. Of two requests that need the same memory vLLM preempts the one
    of the larger number.
    """

    WITHIN_SHARE = 0
    ABOVE_SHARE = 1
    FLEX = 2

    @classmethod
    def of(cls, tier: Tier) -> Self:
        """The rank of a request of this tier, if its tenant is within its share."""
        return cls.FLEX if tier is Tier.FLEX else cls.WITHIN_SHARE
