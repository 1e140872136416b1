"""A connection's transport: it joins small writes, and ends even if its peer does not read."""

import asyncio
from collections.abc import Callable
from typing import Any

_LAST_BYTES_SECONDS = 20.0
"""Seconds for a peer to take its last bytes, the same as for one that reads no answer."""
_JOINED_BYTES = 64 * 1024
"""Longest part that is copied behind the head of its answer."""


class EndingTransport:
    """A transport that drops, 20 seconds after `close`, what its peer has not read by then.

    An asyncio transport waits without limit for its last bytes to be read, and holds its place
    among the connections meanwhile. Everything but `close` and `hold` is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        # Called for every token: saves `__getattr__`.
        self.write: Callable[[bytes], None] = transport.write
        self._loop = loop
        self._drop: asyncio.TimerHandle | None = None
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """Keep the next bytes, the head of an answer, until the answer's first part is written.

        Two small writes are two packets, and may wake the peer twice.
        """
        self.write = self._keep

    def _keep(self, head: bytes) -> None:
        self._head = head
        self.write = self._join

    def _join(self, part: bytes) -> None:
        if len(part) > _JOINED_BYTES:
            self.flush()
            self.write(part)
            return
        head, self._head = self._head, b""
        self.write = self._transport.write
        self.write(head + part)

    def flush(self) -> None:
        """Write a head that is kept: its answer has no part."""
        head, self._head = self._head, b""
        self.write = self._transport.write
        if head:
            self.write(head)

    def close(self) -> None:
        """Close once the peer has read what is on its way to it, or after 20 seconds."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.close()
            self._drop = self._loop.call_later(_LAST_BYTES_SECONDS, self._transport.abort)

    def lost(self) -> None:
        """Forget the timer; the connection has ended."""
        if self._drop is not None:
            self._drop.cancel()
