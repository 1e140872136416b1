"""A request as the gate's core sees it, its usage, and the prices of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass

TOKENS_PER_SECOND = 1_000_000 / 256
"""Prompt tokens that a second of a core counts as, for work that is not the model's."""


@dataclass(slots=True)
class Demand:
    """Demand of an engine request, before it is made."""

    prompt_tokens: int
    max_output_tokens: int
    """The most tokens of each sequence."""
    slots: int = 1
    restartable: bool = False
    """True if the request may be ended and made again: no output is handed on before its end."""
    cut: Callable[[], None] | None = None
    """Has the engine end the answer with the tokens that it has made."""
    stand_back: Callable[[], None] | None = None
    """Called before the request is made if its tenant holds more than its share of the engine."""

    @property
    def most_tokens(self) -> int:
        """Largest possible number of tokens, prompt and answers together."""
        return self.prompt_tokens + self.slots * self.max_output_tokens


@dataclass(slots=True, eq=False)
class Ticket:
    """One engine request; two tickets are the same only when they are the same object.

    Times are seconds of the scheduler's clock. Raises ValueError for values out of range.
    """

    tenant: str
    prompt_tokens: int
    max_output_tokens: int
    """The most tokens of each sequence."""
    arrival: float
    deadline: float = math.inf
    max_wait: float = math.inf
    """The longest forecast wait with which the ticket is accepted, whatever its deadline."""
    slots: int = 1
    """Sequences that the ticket takes in the engine."""
    weight: float = 1.0
    """The tenant's share relative to that of others."""
    followers: int = 0
    """Number of the request's other tickets, for which the first one is admitted too."""
    follows: bool = False
    """True for one of these other tickets."""
    background: bool = False
    """True for a ticket that takes only the slots that interactive tickets leave."""
    restartable: bool = False
    """True for a background ticket that may be ended for an interactive one."""
    again: bool = False
    """True if the ticket was ended for an interactive one: it goes before its tenant's others."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots must be at least 1, got {self.slots}")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {self.weight}")
        if self.prompt_tokens < 0 or self.max_output_tokens < 0:
            raise ValueError(
                "prompt_tokens and max_output_tokens must not be negative, got"
                f" {self.prompt_tokens} and {self.max_output_tokens}"
            )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one ticket so far; `cached` counts those of `prompt` that the cache served."""

    prompt: int
    cached: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """Cost of a token: the service function of VTC (arXiv 2401.00588, section 3.1).

    The paper's weights, input 1 and output 2, are the defaults. A cached prompt token costs
    `prompt * (1 - cached_discount)`. Raises ValueError for a price that is not positive or a
    discount outside [0, 1].
    """

    prompt: float = 1.0
    output: float = 2.0
    cached_discount: float = 0.9

    def __post_init__(self) -> None:
        if self.prompt <= 0 or self.output <= 0:
            raise ValueError(
                f"prices must be positive, got prompt={self.prompt} and output={self.output}"
            )
        if not 0 <= self.cached_discount <= 1:
            raise ValueError(f"cached_discount must be in [0, 1], got {self.cached_discount}")

    def cost(self, prompt: int, cached: int = 0, output: float = 0) -> float:
        """The cost of so many tokens, `cached` of them counted in `prompt`."""
        return self.prompt * (prompt - self.cached_discount * cached) + self.output * output
