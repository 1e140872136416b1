"""Requests of a run on disk, so that the memory of the collecting process does not grow."""

import gzip
import json
import tempfile
from collections.abc import Iterable
from typing import Any

from loadtests.protocol.record import Record


class Spool:
    """Rows of records in a temporary file that ends with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._rows = gzip.open(self._file, "wt", compresslevel=1, encoding="utf-8")

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows, as `Record.row` makes them."""
        for row in rows:
            self._rows.write(json.dumps(row, separators=(",", ":")) + "\n")

    def close(self) -> list[Record]:
        """Return all records; none can be added afterwards."""
        self._rows.close()
        self._file.seek(0)
        with self._file, gzip.open(self._file, "rt", encoding="utf-8") as lines:
            return [Record.from_row(json.loads(line)) for line in lines]
