"""Errors in the form of each API: the body of an answer, and the event that ends a stream."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from service.errors import ServiceError

ANTHROPIC_PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
_RESPONSES_PATH = "/v1/responses"

_TYPES = {"internal_error": "api_error", "unavailable_error": "overloaded_error"}
_TYPES_BY_CODE = {"payload_too_large": "request_too_large"}


def error_body(error: ServiceError, path: str, request_id: str) -> dict[str, Any]:
    """The body of an error on a path: Anthropic's has all fields of this service's own, too."""
    body: dict[str, Any] = error.body(request_id)
    if path not in ANTHROPIC_PATHS:
        return body
    shown = body["error"]
    kind = _TYPES_BY_CODE.get(shown["code"], _TYPES.get(shown["type"], shown["type"]))
    return {"type": "error", "error": shown | {"type": kind}, "request_id": request_id}


def error_response(error: ServiceError, path: str, request_id: str) -> Response:
    """The answer to a request that an error ends."""
    content = to_json(error_body(error, path, request_id))
    return Response(content, error.status, error.headers(), media_type="application/json")


def error_event(
    error: ServiceError, path: str, request_id: str, number: int
) -> tuple[str | None, dict[str, Any]]:
    """The name and the value of the event that ends a stream, after so many others.

    It has a name where the API's own events have one.
    """
    body = error_body(error, path, request_id)
    if path in ANTHROPIC_PATHS:
        return "error", body
    if path == _RESPONSES_PATH:
        shown = {key: body["error"][key] for key in ("code", "message", "param")}
        return "error", {"type": "error", "sequence_number": number, **shown, **body}
    return None, body
