"""Rows of training data, written as JSON Lines."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_rows(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the file whole or not at all, and say how many rows it has."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, file)
    sys.stdout.write(f"{file.name}: {len(lines)} rows\n")
