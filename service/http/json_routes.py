"""Requests with JSON bodies: read within limits, parsed strictly and once, checked by one model."""

import asyncio
import math
import re
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.common.error_messages import problems_in, quote, quote_name
from service.context import RequestContext, current_context
from service.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    UnsupportedMediaType,
)
from service.http.bodies import EngineBody
from service.limits.caps import MAX_DEPTH, excess
from service.openai.body import Body, read_body
from service.runtime.parts import Runtime
from service.tenants.tenant import AS_DEFAULT, AUTO_TIER, TIERS, Tier

P = ParamSpec("P")
T = TypeVar("T")

_GZIP = 16 + zlib.MAX_WBITS
_LARGE = 64 * 1024
"""Size in bytes above which a body is parsed in a thread; below it the switch costs more."""

_large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")
_turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
"""A lock for each event loop and tenant that has large bodies."""


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


async def next_part(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether more come; raises ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _wait_for_ever() -> Message:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a request's body is received once")


def replay(body: bytes, following: Receive = _wait_for_ever) -> Receive:
    """An ASGI `receive` that returns a body that was already read, then what follows it."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, None) or await following()

    return receive


class BodyReader:
    """Reads bodies, and bounds the total bytes of a tenant's unfinished bodies.

    Unfinished bodies take memory before token quotas and admission control can limit their
    requests.
    """

    def __init__(self, limit: int, timeout_ms: int, tenant_limit: int) -> None:
        self._limit = limit
        self._timeout_ms = timeout_ms
        self._tenant_limit = max(tenant_limit, limit)
        self._held: Counter[str] = Counter()

    async def read(self, headers: Headers, receive: Receive, tenant: str) -> bytes:
        """The whole body, inflated if it is in gzip.

        Raises PayloadTooLarge, RequestTimeout, ClientGone, TooManyRequests if the tenant's
        unfinished bodies hold too much, and as `is_gzip` and `inflate`.
        """
        packed = is_gzip(headers)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._limit:
            raise PayloadTooLarge(f"body: at most {self._limit} bytes, got {declared}")
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                while more:
                    part, more = await next_part(receive)
                    parts.append(part)
                    size += len(part)
                    self._held[tenant] += len(part)
                    self._check(size, tenant)
        except TimeoutError:
            raise RequestTimeout(f"body: not received within {self._timeout_ms} ms") from None
        finally:
            self._held[tenant] -= size
            if not self._held[tenant]:
                del self._held[tenant]
        body = b"".join(parts)
        # Inflated, a small body may be as large as the limit.
        return await offload_if_large(self._limit, inflate, body, self._limit) if packed else body

    def _check(self, size: int, tenant: str) -> None:
        if size > self._limit:
            raise PayloadTooLarge(f"body: at most {self._limit} bytes, got {size} and more")
        if self._held[tenant] > self._tenant_limit:
            raise TooManyRequests(
                f"body: the tenant's bodies that are not complete may hold at most "
                f"{self._tenant_limit} bytes together. Send fewer at once.",
                code="too_many_body_bytes",
                retry_after=1,
            )


def is_gzip(headers: Headers) -> bool:
    """True for a body in gzip; UnsupportedMediaType for one in another coding."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding: must be gzip or none, got {quote(coding)}")
    return coding != "identity"


def inflate(body: bytes, limit: int) -> bytes:
    """The content of a gzip body of one member, of which no byte beyond the limit is inflated.

    Raises PayloadTooLarge for more, InvalidRequest for a body that is not one complete member.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequest("body: not valid gzip", code="invalid_gzip") from None
    if len(content) > limit:
        raise PayloadTooLarge(f"body: at most {limit} bytes, got more once it was inflated")
    if not stream.eof or stream.unused_data:
        raise InvalidRequest("body: must be one whole gzip member", code="invalid_gzip")
    return content


async def offload_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on a body of `size` bytes, in a thread if the body is large.

    Large bodies are parsed one at a time: parsing 1 MiB of numbers holds the interpreter for 8 to
    20 ms, and the event loop would wait for each body that is parsed at that time. A tenant has at
    most one body waiting for the thread, so another tenant's body waits for at most one of them.
    """
    if size <= _LARGE:
        return work(*args, **kwargs)
    loop = asyncio.get_running_loop()
    turn = _turns.setdefault((id(loop), current_context().tenant.name), asyncio.Lock())
    async with turn:
        return await loop.run_in_executor(_large_bodies, partial(work, *args, **kwargs))


def parse(body: bytes) -> Any:
    """The value of a JSON document; raises InvalidRequest with the place of an error."""
    body = body.removeprefix(BOM_UTF8)  # some programs of Windows begin with it (RFC 8259, 8.1)
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


class JsonRoute(APIRoute):
    """A POST route with an endpoint that takes `body`, `runtime` and `context`.

    Refuses, with a message, content types that are not JSON, broken JSON or UTF-8, NaN and
    infinities, lone surrogates, nesting deeper than 64 levels, and more than 10,000 lists and
    objects or 40,000 strings. It leaves out FastAPI's dependency resolution and three exit stacks
    for each request, which take a tenth of the time of a short answer. Routes with other endpoints
    are FastAPI's.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        parameters = signature(endpoint, eval_str=True).parameters
        self.is_direct = "body" in parameters
        if self.is_direct:
            assert parameters.keys() == {"body", "runtime", "context"}
            self._model = parameters["body"].annotation
            self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, context = Request(scope, receive), current_context()
        context.route = self.path
        _check_content_type(request.headers.get("content-type", ""))
        content = await request.body()
        value = await offload_if_large(len(content), parse, content)
        _apply_client_options(context, request.headers, value if isinstance(value, dict) else {})
        # Lets requests that arrived together do the same step before one does the next: one-token
        # completions took 1.5 times as long when each ran from its body to the engine at once.
        await asyncio.sleep(0)
        runtime = runtime_of(request)
        body, context.ignored_fields = await offload_if_large(
            len(content), _check, self._model, value, runtime
        )
        if isinstance(body, EngineBody):
            context.set_timeout(body.timeout_ms)
        answer = await self.endpoint(body=body, runtime=runtime, context=context)
        if not isinstance(answer, Response):
            content = to_json(answer, exclude_none=self.response_model_exclude_none)
            answer = Response(content, media_type="application/json")
        await answer(scope, receive, send)


def _check_content_type(value: str) -> None:
    kind = value.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"Content-Type: must be application/json, got {kind[:64]!r}")


def _check(kind: Any, value: Any, runtime: Runtime) -> tuple[Any, tuple[str, ...]]:
    """The body as its model, and the places of unknown fields in it; raises InvalidRequest."""
    if issubclass(kind, Body):
        limits, most = runtime.settings.limits, runtime.base.engine.model.max_model_len
        return read_body(kind, value, limits, most)
    ignored: list[str] | None = [] if runtime.settings.limits.unknown_fields == "ignore" else None
    try:
        body = kind.model_validate(value, context=ignored)
        return body, tuple(sorted(set(ignored or ()))[:_MOST_NAMED])
    except ValidationError as error:
        raise explain_problems(value, error.errors(include_url=False)) from None


class DirectRoutes:
    """Pure ASGI: calls the JSON routes of an app, bypassing its router and exception handlers.

    All other requests go to the app.
    """

    def __init__(self, app: ASGIApp, of: FastAPI) -> None:
        self._app = app
        # Middleware is made at the first request, when the app has all its routes.
        found = (route for route in of.routes if isinstance(route, JsonRoute) and route.is_direct)
        self._routes = {route.path: route for route in found}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        posts = scope["type"] == "http" and scope["method"] == "POST" and not scope["root_path"]
        route = self._routes.get(scope["path"]) if posts else None
        if route is None:
            await self._app(scope, receive, send)
        else:
            scope.update({"route": route, "endpoint": route.endpoint, "path_params": {}})
            await route.app(scope, receive, send)


_MOST_NAMED = 256
_TIER_HEADER = "X-Service-Tier"
_TIER_FIELD = "service_tier"
_SDK_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def _apply_client_options(
    context: RequestContext, headers: Headers, body: Mapping[str, Any]
) -> None:
    """Set the request's tier, and its deadline by the timeout that the client's SDK states."""
    _choose_tier(context, headers.get(_TIER_HEADER), body.get(_TIER_FIELD))
    given = next((headers[name] for name in _SDK_TIMEOUTS if name in headers), "")
    timeout_ms = round(1000 * float(given)) if _SECONDS.fullmatch(given) else 0
    context.follow_client(timeout_ms or None, streams=body.get("stream") is True)


def _choose_tier(context: RequestContext, header: str | None, field: Any) -> None:
    """Give a request the tier that its body names, else its header, else its tenant.

    Raises InvalidRequest for a value that is no tier, and for one that the tenant may not use.
    """
    name, place = (header, _TIER_HEADER) if field is None else (field, _TIER_FIELD)
    allowed = context.tenant.tiers
    if name is None or name == AUTO_TIER:
        tier = allowed[0]
    elif name in AS_DEFAULT:
        tier = Tier.DEFAULT
    elif isinstance(name, str) and name in Tier.__members__.values():
        tier = Tier(name)
    else:
        known = ", ".join(TIERS)
        raise InvalidRequest(f"{place}: must be one of {known}, got {quote(name)}", param=place)
    if tier not in allowed:
        message = f"{place}: this key may use {', '.join(allowed)}, got {quote(name)}"
        raise InvalidRequest(message, param=place)
    context.asked_tier = name
    if tier is Tier.FLEX:
        context.become_flex()


def runtime_of(request: Request) -> Runtime:
    """The components of the running service; raises NotReady before they exist."""
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise NotReady("The server is starting.", retry_after=5)
    return runtime


# Coroutines, though they await nothing: FastAPI runs plain functions in a thread.
async def _runtime(request: Request) -> Runtime:
    return runtime_of(request)


async def _context() -> RequestContext:
    return current_context()


TheRuntime = Annotated[Runtime, Depends(_runtime)]
TheContext = Annotated[RequestContext, Depends(_context)]

_SHOWN_PROBLEMS = 3


def register_error_handlers(app: FastAPI) -> None:
    """Have FastAPI raise ServiceErrors instead of answering with its own error bodies."""
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)


async def _validation_error(request: Request, error: Exception) -> NoReturn:
    assert isinstance(error, RequestValidationError)
    raise explain_problems(error.body, error.errors(), root=1)


async def _http_exception(request: Request, error: Exception) -> NoReturn:
    assert isinstance(error, HTTPException)
    path = f"'{quote_name(request.scope['path'])}'"
    if error.status_code == 405:
        refused = MethodNotAllowed(f"{quote_name(request.method)} is not served at {path}")
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


def explain_problems(
    value: object, errors: Iterable[Mapping[str, Any]], *, root: int = 0
) -> InvalidRequest:
    """One message for pydantic's problems, each with its field, its limit and the value given.

    The first `root` parts of each place are left out.
    """
    found = problems_in(value, errors, root=root)
    shown = [
        str(problem) if problem.place else f"body: {problem}" for problem in found[:_SHOWN_PROBLEMS]
    ]
    if len(found) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(found) - _SHOWN_PROBLEMS} more")
    return InvalidRequest("; ".join(shown), param=found[0].field or None)
