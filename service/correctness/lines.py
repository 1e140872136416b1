"""Held-out lines: requests with their right answers, in the form of training lines."""

import json

from service.adapters.confidence import Match
from service.adapters.golden import GenerationExample
from service.adapters.golden_score import matches
from service.adapters.manifest import GenerationGolden
from service.evaluation.lines import CallsLine, CompletedLine, JsonLine


def kind_of(match: Match) -> type[CompletedLine]:
    """The kind of line whose completions can be compared so."""
    return {"json": JsonLine, "tool_calls": CallsLine}.get(match, CompletedLine)


def is_right(line: CompletedLine, answer: str, match: Match) -> bool:
    """True if an answer is the line's, as a golden example's is (`golden_score.matches`)."""
    expect = json.loads(line.completion) if match == "json" else line.completion
    golden = GenerationGolden(file="lines", match=match)
    return matches(GenerationExample(expect=expect), answer, golden)
