"""Requests that the service makes to itself, for a tenant whose key was checked otherwise."""

import math

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message

from service.api.body import replay
from service.api.exchange import ID_HEADER, TIMEOUT_HEADER
from service.api.peer import KEY, Peer
from service.batches.line_call import Reply
from service.tenants.tenant import Tenant


class OwnCall:
    """Calls the public app without a socket; the request passes the same checks as a client's.

    It is counted in quotas, metrics and the log, and cancelled like one whose client disconnects.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(
        self, tenant: Tenant, path: str, body: bytes, *, request_id: str, timeout_s: float
    ) -> Reply:
        """Post a JSON body to a path, and wait for the whole answer."""
        answer = _Answer()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (ID_HEADER.encode(), request_id.encode()),
            (TIMEOUT_HEADER.encode(), b"%d" % math.ceil(1000 * timeout_s)),
        ]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": None,
            "server": None,
            KEY: Peer(tenant=tenant),
        }
        await self._app(scope, replay(body), answer.take)
        return answer.reply()


class _Answer:
    """The parts of an answer, as they are sent."""

    def __init__(self) -> None:
        self._status = 500
        self._headers = Headers()
        self._parts: list[bytes] = []

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = Headers(raw=message["headers"])
        else:
            self._parts.append(message.get("body", b""))

    def reply(self) -> Reply:
        wait = self._headers.get("retry-after")
        return Reply(self._status, b"".join(self._parts), None if wait is None else float(wait))
