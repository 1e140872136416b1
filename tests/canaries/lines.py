"""Lines with right answers, which users ask about: no committed adapter was trained on them."""

import json
from pathlib import Path
from typing import Any

_LINES = {
    "sentiment": Path("deploy/local/recipes/sentiment_golden.jsonl"),
    "commands": Path("deploy/local/suites/commands.jsonl"),
}


def read_lines(adapter: str) -> list[dict[str, Any]]:
    """The lines of an adapter."""
    return [json.loads(line) for line in _LINES[adapter].read_text(encoding="utf-8").splitlines()]
