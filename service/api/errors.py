"""Turns FastAPI's exceptions into the service's, which end a request in its scope."""

from typing import NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.errors import InvalidRequest, MethodNotAllowed, NotFound
from service.quoting import problems, quote_name

_SHOWN_PROBLEMS = 3


def register_error_handlers(app: FastAPI) -> None:
    """Have FastAPI raise ServiceErrors where it would answer in a shape of its own."""
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)


async def _validation_error(request: Request, error: Exception) -> NoReturn:
    assert isinstance(error, RequestValidationError)
    raise explain_validation(error)


async def _http_exception(request: Request, error: Exception) -> NoReturn:
    assert isinstance(error, HTTPException)
    path = f"'{quote_name(request.scope['path'])}'"
    if error.status_code == 405:
        method = quote_name(request.method)
        refused = MethodNotAllowed(f"{method} is not served at {path}")
        allowed = (error.headers or {}).get("Allow")
        refused.allow = "GET, HEAD" if allowed == "GET" else allowed
        raise refused
    if error.status_code == 404:
        raise NotFound(f"There is nothing at {path}")
    raise InvalidRequest(str(error.detail)[:200])


def explain_validation(error: RequestValidationError) -> InvalidRequest:
    """One message for pydantic's problems, each with its field, its limit and the value given."""
    errors = error.errors()
    found = list(problems(errors[:_SHOWN_PROBLEMS], root=1, document=error.body))
    lines = [str(problem) if problem.place else f"body: {problem}" for problem in found]
    if len(errors) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(errors) - _SHOWN_PROBLEMS} more")
    return InvalidRequest("; ".join(lines), param=found[0].field or None)
