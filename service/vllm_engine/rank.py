"""Ranks of requests in vLLM's engine: its priorities, of which the smallest is served first."""

from enum import IntEnum


class Rank(IntEnum):
    """Priority of a request by the share that its tenant holds, and by its tier.

    Prompts are read in this order. Of two requests that need the same memory vLLM preempts the one
    of the larger number.
    """

    WITHIN_SHARE = 0
    ABOVE_SHARE = 1
    FLEX = 2
