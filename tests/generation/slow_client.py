"""A client that takes a streamed answer when a test has it do so."""

from collections.abc import Callable


def _nothing() -> None:
    """Nobody waits for the client yet."""


class SlowClient:
    """Implements `writer.Writer`; `busy` as long as the test says so, at most until the flush."""

    def __init__(self, *, busy: bool = False) -> None:
        self.on_free: Callable[[], None] = _nothing
        self.busy = busy
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> None:
        self.parts.append(part)

    def free(self) -> None:
        """Take what is there."""
        self.busy = False
        self.on_free()

    async def flush(self) -> None:
        self.free()
