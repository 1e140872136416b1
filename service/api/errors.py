"""Turns FastAPI's exceptions into the service's, which end a request in its scope."""

from typing import NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from service.errors import InvalidRequest, MethodNotAllowed, NotFound
from service.quoting import problems_in, quote_name

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
        refused.allow = ", ".join(_methods(request)) or None
        raise refused
    if error.status_code == 404:
        raise NotFound(f"There is nothing at {path}; GET /docs lists the routes")
    raise InvalidRequest(str(error.detail)[:200])


def _methods(request: Request) -> list[str]:
    """The methods of the requested path, which several routes may have."""
    routes = (each for each in request.app.routes if isinstance(each, Route))
    found = (each for each in routes if each.matches(request.scope)[0] is not Match.NONE)
    methods = {method for each in found for method in each.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def explain_validation(error: RequestValidationError) -> InvalidRequest:
    """One message for pydantic's problems, each with its field, its limit and the value given."""
    found = problems_in(error.body, error.errors(), root=1)
    shown = [
        str(problem) if problem.place else f"body: {problem}" for problem in found[:_SHOWN_PROBLEMS]
    ]
    if len(found) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(found) - _SHOWN_PROBLEMS} more")
    return InvalidRequest("; ".join(shown), param=found[0].field or None)
