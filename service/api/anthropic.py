"""Answers on the paths of Anthropic's API: its errors, and its name of the header with the id."""

from typing import Any

from service.api.sse import named_event

PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
ID_HEADER = "request-id"

_TYPES = {"internal_error": "api_error", "unavailable_error": "overloaded_error"}
_TYPES_BY_CODE = {"payload_too_large": "request_too_large"}


def error_body(body: dict[str, Any]) -> dict[str, Any]:
    """The body of an error in Anthropic's shape, with all fields of this service's own."""
    error = body["error"]
    kind = _TYPES_BY_CODE.get(error["code"], _TYPES.get(error["type"], error["type"]))
    return {"type": "error", "error": error | {"type": kind}, "request_id": error["request_id"]}


def error_event(body: Any) -> bytes:
    """The event that ends a stream which failed."""
    return named_event("error", error_body(body))
