"""Turns every exception of a route into the one error shape."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from service.api.schemas.base import UNKNOWN_FIELD, ErrorBody
from service.context import current_context
from service.errors import InvalidRequest, MethodNotAllowed, NotFound, ServiceError
from service.quoting import nearest, quote, quote_name

_log = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 3

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is refused; the message says why."},
    "5XX": {"model": ErrorBody, "description": "The server is full, not ready, or failed."},
}
"""Description of every route's errors in the schema."""


def register_error_handlers(app: FastAPI) -> None:
    """Route errors first, framework errors next, all else last."""
    app.exception_handler(ServiceError)(_service_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)


def error_response(error: ServiceError) -> Response:
    """The answer for an error; remembers it as what ended the request."""
    context = current_context()
    context.failure = error
    body = to_json(error.body(context.request_id))
    return Response(body, error.status, error.headers(), media_type="application/json")


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return error_response(error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(explain_validation(error.errors()))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = quote(request.scope["path"])
    if error.status_code == 405:
        method = quote_name(request.method)
        response = error_response(MethodNotAllowed(f"{method} is not served at {path}"))
        response.headers.update(error.headers or {})
        return response
    if error.status_code == 404:
        return error_response(NotFound(f"There is nothing at {path}"))
    return error_response(InvalidRequest(str(error.detail)[:200]))


def explain_validation(problems: Sequence[Any]) -> InvalidRequest:
    """One message for pydantic's problems, each with its field, its limit and the value given."""
    lines = [_problem(problem) for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return InvalidRequest("; ".join(lines), param=_field(problems[0]) or None)


def _field(problem: Mapping[str, Any]) -> str:
    parts = problem["loc"][1:]
    if problem["type"] == UNKNOWN_FIELD:
        parts = (*parts, problem["ctx"]["name"])
    return ".".join(quote_name(str(part)) for part in parts)


def _problem(problem: Mapping[str, Any]) -> str:
    field = _field(problem) or "body"
    if problem["type"] == UNKNOWN_FIELD:
        context = problem["ctx"]
        return f"{field}: unknown field{nearest(context['name'], context['known'])}"
    if problem["type"] == "missing":
        return f"{field}: required"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "value_error":
        return f"{field}: {message}"
    return f"{field}: must be {message}, got {quote(problem.get('input'))}"
