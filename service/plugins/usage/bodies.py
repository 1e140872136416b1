"""Body of GET /v1/usage."""

from typing import Literal, Self

from service.http.bodies import AnswerBody
from service.plugins.usage.stores import SECONDS, Period, UsageRow


class UsagePeriod(AnswerBody):
    """Requests of one kind that ended in a period, and their tokens; times in Unix seconds.

    `with_objectives` requests had objectives; `objectives_kept` of these met all their objectives.
    """

    start: int
    end: int
    model: str
    adapter: str | None
    route: str
    service_tier: str
    requests: int
    refused: int
    with_objectives: int
    objectives_kept: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, row: UsageRow, period: Period) -> Self:
        """A row of the ledger."""
        kind, amounts = row.kind, row.amounts
        return cls(
            start=row.start,
            end=row.start + SECONDS[period],
            model=kind.model,
            adapter=kind.adapter or None,
            route=kind.route,
            service_tier=kind.service_tier,
            requests=amounts.requests,
            refused=amounts.refused,
            with_objectives=amounts.with_objectives,
            objectives_kept=amounts.objectives_kept,
            prompt_tokens=amounts.prompt_tokens,
            cached_tokens=amounts.cached_tokens,
            completion_tokens=amounts.completion_tokens,
        )


class UsageList(AnswerBody):
    """The caller's usage, oldest period first; `has_more` is true if the limit left some out."""

    object: Literal["list"] = "list"
    data: list[UsagePeriod]
    has_more: bool
