"""Records of files and batches as the fields of hashes, which are texts."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.plugins.batches.records import Arrival, Batch, Problem, Purpose, Status, StoredFile

_TIMES = "times."
_NUMBERS = {
    *("bytes", "created_at", "expires_at", "keep_seconds", "total", "completed", "failed"),
    *("moved_at", "answer_bytes"),
}
_JSON = {"metadata", "problems"}


def packed(record: StoredFile | Arrival | Batch) -> str:
    """The fields of a record as JSON for a script; those that are None are left out.

    A batch must be at its beginning, without times.
    """
    row = asdict(record)
    row.pop("times", None)
    for name in _JSON & row.keys():
        row[name] = json.dumps(row[name])
    return json.dumps({name: str(value) for name, value in row.items() if value is not None})


def packed_problems(problems: Any) -> str:
    """Problems as the field of a batch."""
    return json.dumps([asdict(problem) for problem in problems])


def file_of(fields: Mapping[bytes, bytes]) -> StoredFile:
    """The file of a hash."""
    row = _read(fields)
    return StoredFile(**row | {"purpose": Purpose(row["purpose"])})


def batch_of(fields: Mapping[bytes, bytes]) -> Batch:
    """The batch of a hash."""
    row = _read(fields)
    times = {
        Status(name.removeprefix(_TIMES)): int(row.pop(name))
        for name in list(row)
        if name.startswith(_TIMES)
    }
    problems = tuple(Problem(**problem) for problem in row.pop("problems"))
    return Batch(**row | {"status": Status(row["status"])}, problems=problems, times=times)


def _read(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    return {name.decode(): _value(name.decode(), value.decode()) for name, value in fields.items()}


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS:
        return int(text)
    return json.loads(text) if name in _JSON else text
