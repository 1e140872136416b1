"""Suites and lines that tests write."""

import json
from pathlib import Path
from typing import Any

import yaml

CLASSIFICATION: dict[str, Any] = {
    "name": "films",
    "kind": "classification",
    "lines": "films.jsonl",
    "licence": "Apache-2.0",
    "labels": ["good", "bad"],
    "template": "{input}\nLabel:",
}
FILMS = [
    {"text": "A wonderful film from beginning to end.", "label": "good"},
    {"text": "Nobody laughed, and everybody left early.", "label": "bad"},
    {"text": "The music alone is worth the ticket.", "label": "good"},
]


def write_suite(
    folder: Path, *tasks: dict[str, Any], lines: list[Any] | None = None, **fields: Any
) -> Path:
    """A suite of these tasks, one classification unless given, beside its lines."""
    rows = FILMS if lines is None else lines
    (folder / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "suite.yaml"
    tree = {"schema": 1, "name": "test", "tasks": list(tasks or (CLASSIFICATION,)), **fields}
    file.write_text(yaml.safe_dump(tree))
    return file
