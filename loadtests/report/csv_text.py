"""Numbers of results as CSV, a row for each group of requests; times in seconds."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtests.analysis.breakdown import Breakdown

_LISTS = ("stages", "workloads", "adapters", "tenants")


def csv_text(found: Sequence[tuple[str, Breakdown]]) -> str:
    """Runs and sides of comparisons, each with its name: a column for each number of a Summary."""
    rows = []
    for name, parts in found:
        groups = [("all", parts.overall)]
        groups += [(kind, group) for kind in _LISTS for group in getattr(parts, kind)]
        for kind, group in groups:
            rows.append({"result": name, "kind": kind} | dict(_flat("", group.model_dump())))
    text = io.StringIO()
    columns = dict.fromkeys(column for row in rows for column in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif not isinstance(value, tuple):
            yield prefix + name, value
