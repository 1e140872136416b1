"""Loaders of published traces; the traces themselves are not shipped.

azure      Azure LLM inference traces 2023 (CC-BY-4.0): CSV TIMESTAMP, ContextTokens,
           GeneratedTokens
burstgpt   BurstGPT (CC-BY-4.0): CSV Timestamp (seconds), Request tokens, Response tokens
mooncake   Mooncake (Apache-2.0): JSON lines timestamp (ms), input_length, output_length,
           hash_ids of blocks of 512 tokens
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

Format = Literal["azure", "burstgpt", "mooncake"]

MOONCAKE_BLOCK = 512


class TraceError(ValueError):
    """A trace cannot be read; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One traced request: its instant, in seconds from the first, and its lengths in tokens."""

    at: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(path: Path, form: Format, limit: int | None = None) -> list[TraceRow]:
    """The first `limit` rows with input and output, in order of time; the first is at zero."""
    rows: list[TraceRow] = []
    try:
        with path.open(encoding="utf-8") as file:
            for row in _READERS[form](file):
                if row.input_tokens > 0 and row.output_tokens > 0:
                    rows.append(row)
                if limit is not None and len(rows) == limit:
                    break
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{path}: row {len(rows) + 1} is no {form} row: {error!r}") from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
    if not rows:
        raise TraceError(f"{path}: holds no {form} request")
    rows.sort(key=lambda row: row.at)
    start = rows[0].at
    return [TraceRow(r.at - start, r.input_tokens, r.output_tokens, r.blocks) for r in rows]


def _azure(lines: Iterator[str]) -> Iterator[TraceRow]:
    for row in csv.DictReader(lines):
        # The trace has seven digits of a second, one more than datetime reads.
        at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
        yield TraceRow(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _burstgpt(lines: Iterator[str]) -> Iterator[TraceRow]:
    for row in csv.DictReader(lines):
        yield TraceRow(
            float(row["Timestamp"]), int(row["Request tokens"]), int(row["Response tokens"])
        )


def _mooncake(lines: Iterator[str]) -> Iterator[TraceRow]:
    for line in lines:
        row = json.loads(line)
        yield TraceRow(
            row["timestamp"] / 1000,
            row["input_length"],
            row["output_length"],
            tuple(row["hash_ids"]),
        )


_READERS: dict[Format, Callable[[Iterator[str]], Iterator[TraceRow]]] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "mooncake": _mooncake,
}
