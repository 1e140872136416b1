"""One request over HTTP, with the arrival time of every line of its answer."""

import errno
import json
import socket
from time import perf_counter

import gevent
from geventhttpclient import HTTPClient
from geventhttpclient.response import (
    HTTPConnectionClosed,
    HTTPParseError,
    HTTPSocketPoolResponse,
)

from loadtests.protocol.api import Request
from loadtests.protocol.record import Broken, Exchange

_CONNECT_S = 10.0
_NO_ROUTE = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
}


class Wire:
    """A pool of connections to one server.

    Locust's own HTTP client reads a stream in blocks of 1,024 bytes and hides a small pool, both
    of which add to the measured latency; here each line is stamped as soon as its end was read,
    and there is a connection for every request in flight.
    """

    def __init__(self, host: str, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._client = HTTPClient.from_url(
            host,
            concurrency=connections,
            connection_timeout=min(_CONNECT_S, timeout_s),
            network_timeout=timeout_s,
        )
        self._resolve_once()

    def exchange(
        self,
        request: Request,
        body: bytes,
        headers: dict[str, str],
        start: float,
        hang_up: int | None,
    ) -> Exchange:
        """Send and read to the end;

        `start` is the run's start by `perf_counter`. Raises no error: a failure is recorded in the
        exchange. With `hang_up` the connection is closed after that many events.
        """
        began = perf_counter()
        exchange = Exchange(sent=began - start)
        response: HTTPSocketPoolResponse | None = None
        try:
            with gevent.Timeout(self._timeout_s):
                response = self._client.request("POST", request.path, body, headers)
                exchange.status = response.status_code
                if request.stream and exchange.status == 200:
                    _read_lines(response, exchange, began, hang_up)
                else:
                    exchange.retry_after = _text(response.get("retry-after"))
                    exchange.body = bytes(response.read())
                    exchange.ended = perf_counter() - began
        except (OSError, HTTPParseError, gevent.Timeout, gevent.GreenletExit) as error:
            exchange.ended = perf_counter() - began
            exchange.broken, exchange.detail = _broken(error), f"{type(error).__name__}: {error}"
        finally:
            # A connection whose answer was not read to its end is closed, not pooled.
            if response is not None:
                response.release()
        return exchange

    def close(self) -> None:
        self._client.close()

    def _resolve_once(self) -> None:
        """Look the host up now: a lookup for each connection would count as the server's time."""
        pool = self._client._connection_pool
        try:
            addresses = pool._resolve()
        except OSError:
            return  # Each request will report that the host is unreachable.
        pool._resolve = lambda: addresses  # type: ignore[method-assign]


def encode(request: Request) -> bytes:
    """The body on the wire."""
    return json.dumps(request.body, ensure_ascii=False).encode()


def _read_lines(
    response: HTTPSocketPoolResponse, exchange: Exchange, began: float, hang_up: int | None
) -> None:
    """Read lines up to the end of the body; the answer ends at `[DONE]`, if it comes."""
    lines = exchange.lines
    data = 0
    done = False
    while line := response.readline(b"\n"):
        at = perf_counter() - began
        lines.append((at, line))
        if not done:
            exchange.ended = at
        if line.startswith(b"data:"):
            data += 1
            done = done or line[5:].strip() == b"[DONE]"
        elif data == hang_up and not done:
            exchange.hung_up = True
            return
    if not done:
        exchange.ended = perf_counter() - began


def _text(header: str | list[str] | None) -> str | None:
    return header[0] if isinstance(header, list) else header


def _broken(error: BaseException) -> Broken:
    match error:
        case gevent.GreenletExit():
            return "unfinished"
        case gevent.Timeout() | TimeoutError():
            return "timeout"
        case socket.gaierror():
            return "unreachable"
        case OSError(errno=number) if number in _NO_ROUTE:
            return "unreachable"
        case OSError() | HTTPConnectionClosed():
            return "reset"
        case _:
            return "truncated"
