"""Reading of request bodies: bounded, decompressed, and replayed to the app."""

import asyncio
import zlib
from collections import Counter

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from service.common.error_messages import quote
from service.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    UnsupportedMediaType,
)
from service.http.json_routes import offload_if_large
from service.settings.tree import HttpSettings


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


async def next_part(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether more come; raises ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _nothing_more() -> Message:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a request's body is received once")


def replay(body: bytes, following: Receive = _nothing_more) -> Receive:
    """An ASGI `receive` that returns a body that was already read, then what follows it."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, None) or await following()

    return receive


class BodyReader:
    """Reads bodies, and bounds the total bytes of a tenant's unfinished bodies.

    They take memory before a quota of tokens or the gate has seen their requests.
    """

    def __init__(self, http: HttpSettings) -> None:
        self._http = http
        self._tenant_limit = max(http.tenant_body_bytes, http.max_body_bytes)
        self._held: Counter[str] = Counter()

    async def read(self, headers: Headers, receive: Receive, tenant: str) -> bytes:
        """The whole body, inflated if it is in gzip.

        Raises PayloadTooLarge, RequestTimeout, ClientGone, TooManyRequests if the tenant's
        unfinished bodies hold too much, and as `is_gzip` and `inflated`.
        """
        limit, packed = self._http.max_body_bytes, is_gzip(headers)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise PayloadTooLarge(f"body: at most {limit} bytes, got {declared}")
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._http.body_timeout_ms / 1000):
                while more:
                    part, more = await next_part(receive)
                    parts.append(part)
                    size += len(part)
                    self._held[tenant] += len(part)
                    self._check(size, tenant)
        except TimeoutError:
            raise RequestTimeout(
                f"body: not received within {self._http.body_timeout_ms} ms"
            ) from None
        finally:
            self._held[tenant] -= size
            if not self._held[tenant]:
                del self._held[tenant]
        body = b"".join(parts)
        # Inflated, a small body may be as large as the limit.
        return await offload_if_large(limit, inflated, body, limit) if packed else body

    def _check(self, size: int, tenant: str) -> None:
        if size > self._http.max_body_bytes:
            raise PayloadTooLarge(
                f"body: at most {self._http.max_body_bytes} bytes, got {size} and more"
            )
        if self._held[tenant] > self._tenant_limit:
            raise TooManyRequests(
                f"body: the tenant's bodies that are not complete may hold at most "
                f"{self._tenant_limit} bytes together. Send fewer at once.",
                code="too_many_body_bytes",
                retry_after=1,
            )


_GZIP = 16 + zlib.MAX_WBITS


def is_gzip(headers: Headers) -> bool:
    """True for a body in gzip; UnsupportedMediaType for one in another coding."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding: must be gzip or none, got {quote(coding)}")
    return coding != "identity"


def inflated(body: bytes, limit: int) -> bytes:
    """The content of a gzip body of one member.

    No byte beyond the limit is inflated. Raises PayloadTooLarge for more, InvalidRequest for a
    body that is not one complete member.
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
