"""The sockets of both ports, and the uvicorn servers that serve them."""

import asyncio
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from service.errors import ConfigurationError
from service.http.connection import BoundedConnection
from service.runtime.status import Status
from service.settings.tree import HttpSettings


def bind(key: str, host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet, so clients are refused until a server runs.

    Raises ConfigurationError with the settings key and the address that cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        raise ConfigurationError(f"{key}: {host!r} is no address: {error.strerror}") from error
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"{key}: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    bound.set_inheritable(False)
    return bound


_log = logging.getLogger(__name__)

_OTHERS = 512
"""File descriptors besides clients' connections: the engine's, adapters', operations'."""


def allow_connections(connections: int) -> None:
    """Raise the soft limit of open files (RLIMIT_NOFILE) for so many connections, if allowed.

    In containers it is often 1,024; beyond it no connection is accepted. Processes started later
    inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _log.warning(
            "http.max_connections: %d connections need %d open files, and the hard limit is %d "
            "(ulimit -Hn)",
            connections,
            needed,
            hard,
        )


_LAST_CONNECTIONS_SECONDS = 5
"""Time for clients to read what they have been sent, and errors of requests that are ended."""
_OPS_CONNECTIONS = 64
_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
]
"""Headers of every answer of both ports: a browser neither guesses what it is nor frames it, nor
names it to another site. Pages have a policy of their own as well, and browsers apply both."""


class PublicServer(uvicorn.Server):
    """uvicorn that drains on the first SIGTERM or SIGINT; a second one, or one at start, stops it.

    SIGINT comes from a terminal, so this drain has no time for load balancers (`lame_duck_s`).
    `on_started` is called once connections are accepted.
    """

    def __init__(
        self, config: uvicorn.Config, status: Status, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._status = status
        self._on_started = on_started
        self._asked = False
        status.stop = self.stop
        status.listening = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._status.listening = True
            self._on_started()

    def stop(self) -> None:
        """Accept no more connections, and end the open ones soon."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._status.interrupt is not None:
            self._status.interrupt(sig)
        if self._asked or self._status.drain is None:
            super().handle_exit(sig, frame)
        else:
            self._status.drain(sig == signal.SIGTERM)
        self._asked = True


class OpsServer(uvicorn.Server):
    """uvicorn that ends endless streams at shutdown before it waits for open answers."""

    def __init__(self, app: FastAPI) -> None:
        # Without `proxy_headers`: the address of a caller is that of its connection.
        super().__init__(_config(app, _OPS_CONNECTIONS, proxy_headers=False))
        self._end_streams: Callable[[], None] = app.state.end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()
        await super().shutdown(sockets)


def public_config(app: FastAPI, http: HttpSettings) -> uvicorn.Config:
    """Configuration of uvicorn for the public app."""
    return _config(
        app,
        http.max_connections,
        timeout_keep_alive=http.keep_alive_s,
        timeout_graceful_shutdown=_LAST_CONNECTIONS_SECONDS,
    )


def _config(app: FastAPI, connections: int, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        limit_concurrency=connections + 1,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=_HEADERS,
        **options,
    )


def serve(
    public: FastAPI,
    ops: FastAPI,
    status: Status,
    http: HttpSettings,
    *,
    on_started: Callable[[], None],
    on_hangup: Callable[[], None],
) -> bool:
    """Serve until a signal, a drain or a dead engine ends it; False when it did not start.

    `on_started` is called when the public port accepts connections and `on_hangup` for every
    SIGHUP, both on the public loop.

    Raises ConfigurationError at once if a port is in use. The admin app has a thread and an event
    loop of its own, so that it answers while the engine starts and scrapes do not delay tokens.
    """
    allow_connections(http.max_connections)
    with (
        bind("http.port", http.host, http.port) as public_socket,
        bind("http.ops_port", http.ops_host, http.ops_port) as ops_socket,
    ):
        server = PublicServer(public_config(public, http), status, on_started)
        with _operations(ops, ops_socket):
            _serve(server, public_socket, on_hangup)
        return server.started


def _serve(
    server: PublicServer, public_socket: socket.socket, on_hangup: Callable[[], None]
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # After its end uvicorn raises the signal again for handlers of its caller: ignore that.
        signal.signal(number, _already_stopping)
    # uvicorn exits if the app does not start; the caller reports the reason.
    with suppress(SystemExit), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().add_signal_handler(signal.SIGHUP, on_hangup)
        runner.run(server.serve([public_socket]))


@contextmanager
def _operations(ops: FastAPI, ops_socket: socket.socket) -> Iterator[None]:
    server = OpsServer(ops)
    thread = threading.Thread(
        target=server.run, args=([ops_socket],), name="operations", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def _already_stopping(number: int, frame: FrameType | None) -> None:
    """Do nothing: the servers have already stopped for this signal."""
