"""Processes of this machine: free ports, starting, waiting until something holds, ending."""

import asyncio
import atexit
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 240.0
"""The longest wait for what comes at once on an idle machine; only what never comes takes it."""


_held = ExitStack()
"""The sockets of `free_port`, until this process ends."""
atexit.register(_held.close)


def free_port() -> int:
    """A port of the loopback for a program to listen on; no other gets it while this process runs.

    Its socket stays bound, so that the system gives the port to no client and to no other server
    that asks for any. SO_REUSEADDR, which servers set, lets the program listen beside it.
    """
    holder = _held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1])


def wait_until(
    holds: Callable[[], object],
    seconds: float,
    what: str,
    *,
    every: float = 0.05,
    forgiven: tuple[type[Exception], ...] = (),
) -> None:
    """Return once a condition holds;

    a TimeoutError after the seconds names what did not happen. An exception of a `forgiven` type
    counts as not yet; the message ends with the last one.
    """
    deadline, last = time.monotonic() + seconds, ""
    while True:
        try:
            if holds():
                return
        except forgiven as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s{last}")
        time.sleep(every)


async def eventually(holds: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait in an event loop until a condition holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what it looks at lives in other tasks and threads
            await asyncio.sleep(0.002)


def served(
    url: str, process: "subprocess.Popen[bytes] | None" = None, log: Path | None = None
) -> bool:
    """True once a URL answers below 500; RuntimeError, with the log's end, if its process ended."""
    if process is not None and process.poll() is not None:
        told = log.read_text(errors="replace")[-4000:] if log else ""
        raise RuntimeError(f"the process of {url} ended with {process.returncode}\n{told}".rstrip())
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


@contextmanager
def running(
    command: Sequence[str | Path], log: Path | None = None, **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program while the block runs, its output in a log or dropped."""
    with log.open("wb") if log else open("/dev/null", "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        end(process)


def unwind_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit in this program, so that it ends what it has started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def end(process: "subprocess.Popen[Any]", seconds: float = 60) -> None:
    """Terminate a process, even a stopped one; kill it if it does not end within the seconds."""
    process.terminate()
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
