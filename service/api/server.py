"""Runs the public and the operations app, each on its own port."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from service.api.listening import bind
from service.settings import HttpSettings

_MAX_HEADER_BYTES = 64 * 1024
_KEEP_ALIVE_SECONDS = 30


def serve(public: FastAPI, ops: FastAPI, http: HttpSettings, on_hangup: Callable[[], None]) -> bool:
    """Serve until a signal asks to stop; False when the public app did not start.

    `on_hangup` is called, on the public loop, for every SIGHUP. Raises ConfigurationError at once
    when a port is taken.

    The operations app has a thread and a loop of its own, so that it answers while the engine
    starts and a scrape does not hold up a token.
    """
    with (
        bind("http.port", http.host, http.port) as public_socket,
        bind("http.ops_port", http.ops_host, http.ops_port) as ops_socket,
    ):
        return _serve(public, public_socket, ops, ops_socket, on_hangup)


def _serve(
    public: FastAPI,
    public_socket: socket.socket,
    ops: FastAPI,
    ops_socket: socket.socket,
    on_hangup: Callable[[], None],
) -> bool:
    ops_server = uvicorn.Server(_config(ops))
    thread = threading.Thread(
        target=ops_server.run, args=([ops_socket],), name="operations", daemon=True
    )
    thread.start()
    public_server = uvicorn.Server(_config(public))
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises again what made it stop, for whoever comes after it: nobody here does.
        signal.signal(number, _already_stopping)
    try:
        # uvicorn exits where the app does not start; the caller knows why.
        with suppress(SystemExit), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().add_signal_handler(signal.SIGHUP, on_hangup)
            runner.run(public_server.serve([public_socket]))
    finally:
        ops_server.should_exit = True
        thread.join(timeout=5)
    return public_server.started


def _already_stopping(number: int, frame: FrameType | None) -> None:
    """The servers have stopped for this signal already."""


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        server_header=False,
    )
