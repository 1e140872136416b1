"""Role of the writer that takes the parts of a streamed answer."""

from collections.abc import Callable
from typing import Protocol


class Writer(Protocol):
    """Takes the parts of a streamed answer, in order.

    It is `busy` while the client reads nothing: parts that are written then wait and are joined.
    Whoever can make one part of several had better wait until `on_free` is called.
    """

    on_free: Callable[[], None]

    @property
    def busy(self) -> bool: ...

    def write(self, part: bytes) -> None: ...

    async def flush(self) -> None:
        """Wait until the client has taken all parts; raises the error of a part that failed."""
