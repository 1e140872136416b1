"""Server-sent events with names."""

import json
from typing import Any

import httpx


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream of named events."""
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.removesuffix("\n\n").split("\n\n")]
    data = [json.loads(line.removeprefix("data: ")) for _, line in blocks]
    assert [f"event: {each['type']}" for each in data] == [name for name, _ in blocks]
    return data
