"""JSON bodies, parsed strictly and once."""

import asyncio
import math
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers

from service.api.tier import FIELD, HEADER, choose_tier
from service.context import current_context
from service.errors import InvalidRequest, UnsupportedMediaType
from service.limits.depth import MAX_DEPTH, excess
from service.together import abreast

P = ParamSpec("P")
T = TypeVar("T")

_LARGE = 64 * 1024
"""Bytes of a body that is parsed in a thread: below it the switch costs more than the parsing."""
_SDK_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")
_turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
"""The turn of each tenant, of each loop, while it has large bodies."""


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
        """The request with its body parsed, by which the context's tier and deadline are set."""
        context = current_context()
        context.route = self.path
        _check_content_type(request.headers.get("content-type", ""))
        body = await request.body()
        value = await by_size(len(body), parse, body)
        asked = value if isinstance(value, dict) else {}
        choose_tier(context, request.headers.get(HEADER), asked.get(FIELD))
        timeout_ms = _sdk_timeout_ms(request.headers)
        context.follow_client(timeout_ms, streams=asked.get("stream") is True)
        await abreast()
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


async def by_size(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work on a body of so many bytes, in a thread if the body is large.

    One large body at a time: parsing 1 MiB of numbers holds the interpreter for 8 to 20 ms, and the
    event loop waits for each that is parsed then. Of each tenant one waits for the thread,
    so the many of another one delay it by one.
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
