"""Runs the public and the operations app, each on its own port."""

import asyncio
import signal
import threading
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from service.settings import HttpSettings

_MAX_HEADER_BYTES = 64 * 1024
_KEEP_ALIVE_SECONDS = 30


def serve(public: FastAPI, ops: FastAPI, http: HttpSettings) -> bool:
    """Serve until a signal asks to stop; False when the public app did not start.

    The operations app has a thread and a loop of its own, so that it answers while the engine
    starts and a scrape does not hold up a token.
    """
    ops_server = uvicorn.Server(_config(ops, http.ops_host, http.ops_port))
    thread = threading.Thread(target=ops_server.run, name="operations", daemon=True)
    thread.start()
    public_server = uvicorn.Server(_config(public, http.host, http.port))
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises again what made it stop, for whoever comes after it: nobody here does.
        signal.signal(number, _already_stopping)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(public_server.serve())
    finally:
        ops_server.should_exit = True
        thread.join(timeout=5)
    return public_server.started


def _already_stopping(number: int, frame: FrameType | None) -> None:
    """The servers have stopped for this signal already."""


def _config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        server_header=False,
    )
