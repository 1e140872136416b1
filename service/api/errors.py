"""Turns every exception of a route into the one error shape."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from service.api.schemas.base import ErrorBody
from service.context import current_context
from service.errors import InvalidRequest, MethodNotAllowed, NotFound, ServiceError
from service.quoting import problems, quote, quote_name

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


def explain_validation(errors: Sequence[Any]) -> InvalidRequest:
    """One message for pydantic's problems, each with its field, its limit and the value given."""
    found = list(problems(errors[:_SHOWN_PROBLEMS], root=1))
    lines = [str(problem) if problem.place else f"body: {problem}" for problem in found]
    if len(errors) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(errors) - _SHOWN_PROBLEMS} more")
    return InvalidRequest("; ".join(lines), param=found[0].field or None)
