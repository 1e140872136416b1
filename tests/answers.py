"""Checks of the form that every answer of the service must have, on every route."""

import json
from typing import Any

import httpx


def refusal(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a refused request, after a check of its shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = error_of(response.json())
    assert error["request_id"] == response.headers["x-request-id"]
    return error


def error_of(body: Any) -> dict[str, Any]:
    """The error of a body or of an event's data, after a check of its shape."""
    error: dict[str, Any] = body["error"]
    if body.keys() != {"error"}:  # Anthropic's shape
        assert body == {"type": "error", "error": error, "request_id": error["request_id"]}
    assert error.keys() == {"message", "type", "code", "param", "request_id"}
    for key in ("message", "type", "code", "request_id"):
        assert isinstance(error[key], str)
        assert error[key]
    assert error["param"] is None or isinstance(error["param"], str)
    for secret in ("Traceback", 'File "', ".py", "0x", "/pytest-of-"):
        assert secret not in error["message"]
    return error


def events_of(response: httpx.Response) -> list[Any]:
    """The data of a streamed answer's events, parsed; `[DONE]` stays a string."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [item if item == "[DONE]" else json.loads(item) for item in data]
