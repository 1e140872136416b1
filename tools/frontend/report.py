"""The figures as Markdown and JSON."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tools.frontend.cases import Case
from tools.frontend.measure import Figures

Rounds = Mapping[str, Sequence[Figures]]
"""The rounds of a case, by the name of the server: ours first, theirs last."""

_COLUMNS = (
    ("CPU us a token", "cpu_us_per_token", 1),
    ("CPU us a request", "cpu_us_per_request", 0),
    ("tokens/s", "tokens_per_second", 0),
    ("TTFT p50 ms", "ttft_p50_ms", 1),
    ("TTFT p99 ms", "ttft_p99_ms", 1),
    ("ITL p50 ms", "itl_p50_ms", 1),
    ("ITL p99 ms", "itl_p99_ms", 1),
)


def medians(rounds: Sequence[Figures]) -> dict[str, float]:
    """The median of each figure."""
    each = [asdict(figures) for figures in rounds]
    return {name: statistics.median(found[name] for found in each) for name in each[0]}


def ratios(first: Sequence[Figures], second: Sequence[Figures]) -> dict[str, float]:
    """The median of each round's ratio, first over second; NaN if not measured."""
    pairs = [(asdict(one), asdict(other)) for one, other in zip(first, second, strict=True)]
    return {
        name: statistics.median(
            one[name] / other[name] if other[name] else math.nan for one, other in pairs
        )
        for name in pairs[0][0]
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def markdown(results: Sequence[tuple[Case, Rounds]]) -> str:
    """A row for each case and client: ours, theirs and the ratio in every column."""
    rows = []
    for case, rounds in results:
        *clients, theirs = rounds
        for client in clients:
            cells = (_cell(rounds[client], rounds[theirs], *column[1:]) for column in _COLUMNS)
            rows.append((case.name, str(case.streams), client, *cells))
    return table(("", "streams", "client", *(title for title, *_ in _COLUMNS)), rows)


def _cell(ours: Sequence[Figures], theirs: Sequence[Figures], figure: str, digits: int) -> str:
    one, other = medians(ours)[figure], medians(theirs)[figure]
    if math.isnan(one):
        return ""
    return f"{one:,.{digits}f} : {other:,.{digits}f} = {ratios(ours, theirs)[figure]:.2f}"


def batched(results: Sequence[tuple[Case, Rounds]]) -> str:
    """A sentence comparing a read in a batch with a request to vLLM; empty if not measured."""
    found = {case.name: list(rounds.values()) for case, rounds in results}
    if not {"read", "read batch"} <= found.keys():
        return ""
    each = ratios(found["read batch"][0], found["read"][-1])["cpu_us_per_token"]
    return (
        f"A read of a batch takes {each:.2f} of the CPU time of one of vLLM's completions with "
        "log-probabilities, each a request of its own.\n"
    )


def as_json(results: Sequence[tuple[Case, Rounds]], facts: Mapping[str, Any]) -> str:
    """Everything that was measured, with medians and ratios."""
    found = [
        {
            "case": case.name,
            "streams": case.streams,
            "rate": case.rate,
            "tokens": case.tokens,
            "requests": case.streams * case.requests,
            "medians": {name: medians(each) for name, each in rounds.items()},
            "ratios": {
                name: ratios(each, [*rounds.values()][-1]) for name, each in [*rounds.items()][:-1]
            },
            "rounds": {name: [asdict(one) for one in each] for name, each in rounds.items()},
        }
        for case, rounds in results
    ]
    return json.dumps({**facts, "cases": found}, indent=1)
