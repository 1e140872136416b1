"""Held-out lines: requests with their right answers, in the form of training lines."""

from service.adapters.confidence import Match
from service.evaluation.lines import CallsLine, CompletedLine, JsonLine


def kind_of(match: Match) -> type[CompletedLine]:
    """The kind of line whose completions can be compared so."""
    return {"json": JsonLine, "tool_calls": CallsLine}.get(match, CompletedLine)
