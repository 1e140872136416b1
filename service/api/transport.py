"""A connection's transport that ends even if its peer does not read."""

import asyncio
from typing import Any

_LAST_BYTES_SECONDS = 20.0
"""Seconds for a peer to take its last bytes, the same as for one that reads no answer."""


class EndingTransport:
    """A transport that drops, 20 seconds after `close`, what its peer has not read by then.

    An asyncio transport waits without limit for its last bytes to be read, and holds its place
    among the connections meanwhile. Everything but `close` is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.write = transport.write  # called for every token: saves `__getattr__`
        self._loop = loop
        self._drop: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close once the peer has read what is on its way to it, or after 20 seconds."""
        if not self._transport.is_closing():
            self._transport.close()
            self._drop = self._loop.call_later(_LAST_BYTES_SECONDS, self._transport.abort)

    def lost(self) -> None:
        """Forget the timer; the connection has ended."""
        if self._drop is not None:
            self._drop.cancel()
