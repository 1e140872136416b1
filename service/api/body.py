"""Reading of a request's whole body: bounded in size, in time, and in the bytes of its tenant."""

import asyncio
from collections import Counter

from starlette.datastructures import Headers
from starlette.types import Receive

from service.api.encoding import inflated, is_gzip
from service.api.json_body import by_size
from service.errors import PayloadTooLarge, RequestTimeout, TooManyRequests
from service.settings.tree import HttpSettings


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


class BodyReader:
    """Reads bodies, and bounds the bytes that a tenant's unfinished bodies hold together.

    They cost memory before a quota of tokens or the gate has seen their requests.
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
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._held[tenant] += len(parts[-1])
                    more = message.get("more_body", False)
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
        return await by_size(limit, inflated, body, limit) if packed else body

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
