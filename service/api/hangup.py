"""The end of a connection while one of its requests is answered."""

from collections.abc import Callable


class Hangup:
    """Tells a request, which the server answers now, that its client has closed the connection.

    `read_on` resumes reading from the connection: only a reader notices that it was closed.
    """

    def __init__(self, read_on: Callable[[], None]) -> None:
        self.told = False
        self.read_on = read_on
        self._call: Callable[[], None] | None = None

    def watch(self, call: Callable[[], None] | None) -> None:
        """Have a function called when the client has gone; None to call no more."""
        self._call = call

    def tell(self) -> None:
        """Tell that the client has gone."""
        self.told = True
        if self._call is not None:
            self._call()
