"""A request as the gate's core sees it, its usage, and the prices of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand of an engine request: tokens of its prompt, at most so many of each sequence.

    `restartable` if it may be ended and made again, because nothing of it is handed on before its
    end. `cut`, where there is one, has the engine end its answer with what it made; `stand_back` is
    called before the request is made if its tenant holds more than its share of the engine.
    """

    prompt_tokens: int
    max_output_tokens: int
    slots: int = 1
    restartable: bool = False
    cut: Callable[[], None] | None = None
    stand_back: Callable[[], None] | None = None

    @property
    def most_tokens(self) -> int:
        """Largest possible number of tokens, prompt and answers together."""
        return self.prompt_tokens + self.slots * self.max_output_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One engine request; two tickets are the same only when they are the same object.

    `arrival` and `deadline` are seconds of the scheduler's clock (`math.inf` waits for ever),
    `max_wait` the seconds that it may be expected to wait, whatever its deadline, `slots` the
    sequences it occupies in the engine, `max_output_tokens` the most that each of them may produce,
    `weight` the tenant's share relative to others. Of a request of several tickets the first is
    admitted for all: `followers` is the number of the others, which have `follows` set.
    `background` work takes only what interactive work leaves; if it is `restartable` it may be
    ended for an interactive ticket and offered `again`, as the first of its tenant. Raises
    ValueError for values out of range.
    """

    tenant: str
    prompt_tokens: int
    max_output_tokens: int
    arrival: float
    deadline: float = math.inf
    max_wait: float = math.inf
    slots: int = 1
    weight: float = 1.0
    followers: int = 0
    follows: bool = False
    background: bool = False
    restartable: bool = False
    again: bool = False

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
