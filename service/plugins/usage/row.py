"""A row of usage: what a tenant used of one model, on one route, in one period."""

from dataclasses import dataclass
from typing import Literal

Period = Literal["hour", "day"]
SECONDS: dict[Period, int] = {"hour": 3600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that are counted together; `adapter` is the answering adapter's name, or empty."""

    tenant: str
    model: str
    adapter: str
    route: str
    service_tier: str


@dataclass(slots=True)
class Amounts:
    """Ended requests, the refused ones among them, and the tokens of all.

    Objectives applied to `with_objectives` of the requests, and `objectives_kept` of these met all
    of theirs. `cached_tokens` are part of `prompt_tokens`.
    """

    requests: int = 0
    refused: int = 0
    with_objectives: int = 0
    objectives_kept: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, other: "Amounts") -> None:
        """Add other amounts."""
        self.requests += other.requests
        self.refused += other.refused
        self.with_objectives += other.with_objectives
        self.objectives_kept += other.objectives_kept
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Amounts of one kind in the period that begins at `start`, in seconds since 1970."""

    start: int
    kind: Kind
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Question:
    """Rows to read: periods that begin from `start` to before `end`, of one tenant or of all."""

    start: int
    end: int
    period: Period = "day"
    tenant: str | None = None
    limit: int = 1000

    @property
    def hours(self) -> range:
        """The hours since 1970 that begin in this time."""
        hour = SECONDS["hour"]
        return range(-(-self.start // hour), -(-self.end // hour))


@dataclass(frozen=True, slots=True)
class Batch:
    """Counts that are written together, by hour since 1970 and kind, under an `id` of their own."""

    id: str
    rows: dict[tuple[int, Kind], Amounts]
