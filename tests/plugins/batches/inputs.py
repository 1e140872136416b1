"""Input files of batches for tests."""

import json
from typing import Any

GENERATE = "/v1/generate"
BODY: dict[str, Any] = {"model": "fake", "prompt": "Tell me", "max_tokens": 4}


def line(name: str, url: str = GENERATE, **fields: Any) -> dict[str, Any]:
    """A line that asks for a short text, with these fields of its body instead."""
    return {"custom_id": name, "method": "POST", "url": url, "body": BODY | fields}


def jsonl(*lines: Any) -> bytes:
    """The lines as a file; texts are lines as they are."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    return "".join(f"{text}\n" for text in texts).encode()


def many(count: int, **fields: Any) -> bytes:
    """A file of so many lines, each with a name of its own."""
    return jsonl(*(line(f"line-{number}", **fields) for number in range(count)))


def read(content: bytes) -> list[Any]:
    """The values of a file's lines."""
    return [json.loads(each) for each in content.splitlines()]
