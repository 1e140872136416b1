"""The requests that are being answered, and whether more are let in."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import ServiceError


class OpenRequests:
    """Counts requests from their first byte to their last; belongs to one event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._refusal: Callable[[], ServiceError] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def closing(self) -> bool:
        """True while new requests are refused."""
        return self._refusal is not None

    def check(self) -> None:
        """Raise the error for a new request, after `close`."""
        if self._refusal:
            raise self._refusal()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a request while the block runs."""
        self.count += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._empty.set()

    def close(self, refusal: Callable[[], ServiceError]) -> None:
        """Refuse new requests with errors that `refusal` makes; those that are open go on."""
        self._refusal = refusal

    async def wait_until_none(self) -> None:
        """Wait until no request is open."""
        await self._empty.wait()
