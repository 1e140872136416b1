"""Routes with JSON bodies, which are parsed strictly and once, and checked by one model."""

import asyncio
import math
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.common.aio import yield_once
from service.common.error_messages import problems_in, quote, quote_name
from service.context import RequestContext, current_context
from service.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    UnsupportedMediaType,
)
from service.limits.caps import MAX_DEPTH, excess
from service.openai.body import Body, read_body
from service.runtime.parts import Runtime
from service.tenants.tenant import Tier

P = ParamSpec("P")
T = TypeVar("T")

_LARGE = 64 * 1024
"""Size in bytes above which a body is parsed in a thread; below it the switch costs more."""
_SDK_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")
_turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
"""A lock for each event loop and tenant that has large bodies."""


class JsonRoute(APIRoute):
    """A route whose body, if it has one, must be JSON declared as such.

    Refuses, with a message, other content types, broken JSON or UTF-8, NaN and infinities, lone
    surrogates, nesting deeper than 64 levels, and more than 10,000 lists and objects or 40,000
    strings.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def parse_then_handle(request: Request) -> Response:
            if request.method != "POST":
                current_context().route = self.path
                return await handle(request)
            return await handle(await self.parsed(request))

        return parse_then_handle

    async def parsed(self, request: Request) -> "ParsedRequest":
        """Parse the request's body, and set the context's tier and deadline by it."""
        context = current_context()
        context.route = self.path
        _check_content_type(request.headers.get("content-type", ""))
        body = await request.body()
        value = await offload_if_large(len(body), parse, body)
        asked = value if isinstance(value, dict) else {}
        choose_tier(context, request.headers.get(HEADER), asked.get(FIELD))
        timeout_ms = _sdk_timeout_ms(request.headers)
        context.follow_client(timeout_ms, streams=asked.get("stream") is True)
        await yield_once()
        return ParsedRequest(request, len(body), value)


def parse(body: bytes) -> Any:
    """The value of a JSON document; raises InvalidRequest with the place of an error."""
    if (bound := excess(body)) is not None:
        raise InvalidRequest(f"body: {bound}, got more")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"body: not valid JSON: {error}", code="invalid_json") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        children = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list | float)
        ]
        if math.inf in children or -math.inf in children:
            # Written as a number too large for a double, such as 1e999.
            raise InvalidRequest("body: numbers must be finite, got an infinity")
        level = [child for child in children if not isinstance(child, float)]
        if not level:
            return value
    raise InvalidRequest(f"body: nested deeper than {MAX_DEPTH} levels", code="invalid_json")


async def offload_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on a body of `size` bytes, in a thread if the body is large.

    Large bodies are parsed one at a time: parsing 1 MiB of numbers holds the interpreter for 8 to
    20 ms, and the event loop would wait for each body that is parsed at that time. A tenant has at
    most one body waiting for the thread, so its many bodies delay another tenant's by one.
    """
    if size <= _LARGE:
        return work(*args, **kwargs)
    loop = asyncio.get_running_loop()
    turn = _turns.setdefault((id(loop), current_context().tenant.name), asyncio.Lock())
    async with turn:
        return await loop.run_in_executor(_large_bodies, partial(work, *args, **kwargs))


class ParsedRequest(Request):
    """A request with parsed JSON and the number of bytes of its body."""

    def __init__(self, request: Request, size: int, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self.size = size
        self.value = value
        self._body = b"parsed"
        self._json = value


def _sdk_timeout_ms(headers: Headers) -> int | None:
    """The timeout that an SDK of OpenAI or Anthropic says it was given; None if it says none."""
    given = next((headers[name] for name in _SDK_TIMEOUTS if name in headers), "")
    return round(1000 * float(given)) or None if _SECONDS.fullmatch(given) else None


def _check_content_type(value: str) -> None:
    kind = value.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"Content-Type: must be application/json, got {kind[:64]!r}")


def is_body(annotation: Any) -> bool:
    """True for the type of a body of OpenAI's or Anthropic's APIs."""
    return isinstance(annotation, type) and issubclass(annotation, Body)


async def body_of(kind: type[Body], request: ParsedRequest) -> Body:
    """Read a request's body as `read_body` does, and record its ignored fields in the context."""
    runtime = runtime_of(request)
    limits, most = runtime.settings.limits, runtime.base.engine.model.max_model_len
    body, ignored = await offload_if_large(
        request.size, read_body, kind, request.value, limits, most
    )
    current_context().ignored_fields = ignored
    return body


class DirectRoute(JsonRoute):
    """A `JsonRoute` to POST, whose endpoint takes `body` and `request` and returns a response.

    The body is checked as FastAPI does, by the same model, and its errors are the same. FastAPI
    would also solve dependencies and keep three exit stacks for each request, which takes a tenth
    of the time of a short answer; so the endpoint of such a route has no dependencies.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        assert signature(endpoint).parameters.keys() == {"body", "request"}
        annotation = signature(endpoint, eval_str=True).parameters["body"].annotation
        self._model = annotation if is_body(annotation) else None
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self.parsed(Request(scope, receive))
        if self._model is None:
            body = self._checked(request.value)
        else:
            body = await body_of(self._model, request)
        response = await self.endpoint(body=body, request=request)
        await response(scope, receive, send)

    def _checked(self, value: Any) -> Any:
        """The body as the endpoint takes it; raises RequestValidationError."""
        assert self.body_field is not None
        if value is None:
            missing = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
            raise RequestValidationError([missing])
        body, errors = self.body_field.validate(value, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=value)
        return body


class DirectRoutes:
    """Pure ASGI: calls the direct routes of an app, bypassing its router and exception handlers.

    All other requests go to the app. A body that a direct route refuses raises InvalidRequest.
    """

    def __init__(self, app: ASGIApp, of: FastAPI) -> None:
        self._app = app
        # Middleware is made at the first request, when the app has all its routes.
        direct = (route for route in of.routes if isinstance(route, DirectRoute))
        self._routes = {route.path: route for route in direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        posts = scope["type"] == "http" and scope["method"] == "POST" and not scope["root_path"]
        route = self._routes.get(scope["path"]) if posts else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope.update({"route": route, "endpoint": route.endpoint, "path_params": {}})
        try:
            await route.app(scope, receive, send)
        except RequestValidationError as error:
            raise explain_validation(error) from error


HEADER = "X-Service-Tier"
FIELD = "service_tier"

_AUTO = "auto"
_AS_DEFAULT = ("priority", "scale", "standard_only")
"""Tiers that count as the default one: OpenAI's higher tiers, and Anthropic's name of the
default."""


def choose_tier(context: RequestContext, header: str | None, field: Any) -> None:
    """Give a request the tier that its body names, else its header, else its tenant.

    Raises InvalidRequest for a value that is no tier, and for one that the tenant may not use.
    """
    name, place = (header, HEADER) if field is None else (field, FIELD)
    allowed = context.tenant.tiers
    if name is None or name == _AUTO:
        tier = allowed[0]
    elif name in _AS_DEFAULT:
        tier = Tier.DEFAULT
    elif isinstance(name, str) and name in Tier.__members__.values():
        tier = Tier(name)
    else:
        known = ", ".join((_AUTO, *Tier))
        raise InvalidRequest(f"{place}: must be one of {known}, got {quote(name)}", param=place)
    if tier not in allowed:
        own = ", ".join(allowed)
        message = f"{place}: this key may use {own}, got {quote(name)}"
        raise InvalidRequest(message, param=place)
    context.asked_tier = name
    if tier is Tier.FLEX:
        context.become_flex()


def runtime_of(request: Request) -> Runtime:
    """The running service's parts; raises NotReady before it has them."""
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise NotReady("The server is starting.", retry_after=5)
    return runtime


# Coroutines, though they await nothing: FastAPI runs plain functions in a thread, which would cost
# a request more than the rest of this module.
async def _runtime(request: Request) -> Runtime:
    return runtime_of(request)


TheRuntime = Annotated[Runtime, Depends(_runtime)]


async def _context() -> RequestContext:
    return current_context()


TheContext = Annotated[RequestContext, Depends(_context)]


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
