"""HTTP to engines that others run: requests, streams of events, and the errors of both."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from service.common.error_messages import quote
from service.errors import EngineDead, QueueFull, ServiceError
from service.settings.remote import RemoteSettings
from service.vllm.conversion import invalid

_log = logging.getLogger(__name__)

_MOST_LINE_BYTES = 4 << 20
"""Bytes of one event of a stream."""
_MOST_BODY_BYTES = 64 << 20
"""Bytes of a whole answer: log-probabilities of a long prompt."""
_MOST_RETRY_S = 60.0
_BUSY = (429, 503)
_LOST = (502, 504)
"""Statuses of a router whose engine did not answer it."""
_LOST_AWAY = "The engines cannot be reached."
_SLOW_AWAY = "The engines did not answer in time."

Headers = Mapping[str, str]
Json = Mapping[str, Any]


class UnknownModel(ServiceError):
    """The engine does not know the model or the adapter that was asked for."""


class Stream:
    """The events of one answer."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def events(self) -> AsyncGenerator[Json]:
        """The events' objects, up to `[DONE]`; EngineDead if the connection ends before it."""
        rest = b""
        try:
            async for piece in self._response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    yield _event(data)
                if len(rest) > _MOST_LINE_BYTES:
                    raise _unreadable(f"an event of more than {_MOST_LINE_BYTES} bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineDead.midway() from error
        raise EngineDead.midway()

    def close(self) -> None:
        """Close the connection, which ends the request in the engine."""
        self._response.close()


class HttpEngines:
    """The engines behind one address; made and used in one event loop."""

    def __init__(self, settings: RemoteSettings) -> None:
        assert settings.url is not None
        self.url = settings.url.rstrip("/")
        self._own = [each.rstrip("/") for each in settings.engines]
        key = settings.key
        self._session = aiohttp.ClientSession(
            # Admission control bounds the requests, and a connection that waits is a lost slot.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_s, sock_read=settings.silence_s
            ),
            headers={"authorization": f"Bearer {key.get_secret_value()}"} if key else None,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def engines(self) -> list[tuple[str, Headers]]:
        """The addresses of single engines, each with the headers that requests to it need.

        Without a list of their own this is the common address. A name is resolved to all of its
        addresses; with TLS, whose certificate is the name's, to one.
        """
        if not self._own:
            return [(self.url, {})]
        found: dict[str, Headers] = {}
        for each in self._own:
            parts = urlsplit(each)
            if parts.scheme == "https" or parts.hostname is None:
                found[each] = {}
                continue
            for address in await _addresses(parts.hostname, parts.port or 80):
                found[parts._replace(netloc=address).geturl()] = {"host": parts.netloc}
        return list(found.items())

    async def get(self, path: str, base: str | None = None, headers: Headers | None = None) -> Any:
        """GET a JSON document; raises as `post`."""
        async with self._opened("GET", (base or self.url) + path, None, headers) as response:
            return _read_json(await _body(response))

    async def post(
        self, path: str, body: Json, base: str | None = None, headers: Headers | None = None
    ) -> Any:
        """POST JSON and read the answer, which may be plain text.

        Raises EngineDead for an engine that does not answer, QueueFull for one that is busy,
        UnknownModel, InvalidRequest for what it refuses, else ServiceError.
        """
        async with self._opened("POST", (base or self.url) + path, body, headers) as response:
            text = await _body(response)
            return _read_json(text) if "json" in response.content_type else text

    @asynccontextmanager
    async def stream(
        self, path: str, body: Json, headers: Headers | None = None
    ) -> AsyncIterator[Stream]:
        """POST JSON and read the answer as a stream; raises as `post`, before the block."""
        async with self._opened("POST", self.url + path, body, headers) as response:
            try:
                yield Stream(response)
            finally:
                if not response.content.at_eof():
                    response.close()

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, body: Json | None, headers: Headers | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        sent = dict(headers or ()) | ({} if data is None else {"content-type": "application/json"})
        response = await self._asked(method, url, data, sent)
        async with response:
            if response.status >= 300:
                raise _refused(response, await _body(response))
            yield response

    async def _asked(
        self, method: str, url: str, data: bytes | None, headers: Headers
    ) -> aiohttp.ClientResponse:
        """The head of an answer. A lost connection is tried again: it may have been an idle one."""

        def ask() -> Awaitable[aiohttp.ClientResponse]:
            # The key would go along to wherever a redirect leads.
            return self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            )

        try:
            try:
                return await ask()
            except aiohttp.ClientConnectionError as error:
                if isinstance(error, TimeoutError):
                    raise
                return await ask()
        except TimeoutError as error:
            raise EngineDead(_SLOW_AWAY, retry_after=5) from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineDead(_LOST_AWAY, retry_after=5) from error


async def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, with the port, as they stand in a URL; EngineDead if unknown."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EngineDead(_LOST_AWAY, retry_after=5) from error
    hosts = dict.fromkeys(str(each[4][0]) for each in found)
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts]


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    try:
        async for piece in response.content.iter_any():
            parts.append(piece)
            if (size := size + len(piece)) > _MOST_BODY_BYTES:
                raise _unreadable(f"more than {_MOST_BODY_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineDead.midway() from error
    return b"".join(parts)


def _event(data: bytes) -> Json:
    event = _read_json(data)
    if not isinstance(event, dict):
        raise _unreadable("an event that is no object")
    if (error := event.get("error")) is not None:
        raise _told(error)
    return event


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise _unreadable("no JSON") from error


def _unreadable(what: str) -> ServiceError:
    _log.error("remote: the engines' answer cannot be read: %s", what)
    return ServiceError("The engines' answer cannot be read.")


def _told(error: Any, status: int = 500, retry_after: float = 1.0) -> ServiceError:
    """The service's error for a server's: a status, and an error of OpenAI's form."""
    error = error if isinstance(error, dict) else {}
    message, param, code = str(error.get("message", "")), error.get("param"), error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else status
    if status in _BUSY:
        return QueueFull("The engines take no more requests now.", retry_after=retry_after)
    if status in _LOST:
        return EngineDead(_LOST_AWAY, retry_after=5)
    if status == 404 and param == "model":
        return UnknownModel("The engines do not serve this model.")
    if status in (400, 413, 422) and message:
        return invalid(message, param if isinstance(param, str) else None)
    _log.error("remote: the engines answered %d: %s", status, quote(message))
    return ServiceError()


def _refused(response: aiohttp.ClientResponse, body: bytes) -> ServiceError:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    try:
        retry_after = min(max(float(response.headers["retry-after"]), 0.0), _MOST_RETRY_S)
    except (KeyError, ValueError):
        retry_after = 1.0
    return _told(error, response.status, retry_after)
