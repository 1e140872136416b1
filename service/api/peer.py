"""The client at the other end of a request, and what the server offers beside ASGI to reach it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.tenants.tenant import Tenant

KEY = "llm_service"
"""Key of a scope, which no client can set: a server makes scopes and copies nothing into them."""


@dataclass(slots=True)
class Pause:
    """Time until which a connection was asked to wait, in seconds of `time.monotonic`."""

    until: float = 0.0


def _nothing(*_: object) -> None: ...


def _always() -> bool:
    return True


@dataclass(slots=True)
class Peer:
    """The client of one request; without arguments one that is reached through ASGI alone."""

    write: Callable[[bytes], None] = _nothing
    """Writes a part of a body that has begun, past all layers of `send`, unless it is `blocked`."""
    blocked: Callable[[], bool] = _always
    """True while the client takes nothing."""
    hold: Callable[[], None] = _nothing
    """Keeps the head of an answer for its first part."""
    abort: Callable[[], None] = _nothing
    """Drops the connection at once."""
    read_on: Callable[[], None] | None = None
    """Resumes reading, which alone shows that the client has gone; None where nobody tells that."""
    pause: Pause | None = None
    """The pause that the connection was asked for; None where refusals are never held."""
    tenant: Tenant | None = None
    """The tenant of a request that the service makes to itself; None for a client's."""
    gone: bool = False
    """True once the client has closed the connection."""
    _call: Callable[[], None] | None = field(default=None, repr=False)

    def watch(self, call: Callable[[], None] | None) -> None:
        """Have a function called when the client has gone; None to call no more."""
        self._call = call

    def leave(self) -> None:
        """Tell the request, which the server answers now, that its client has gone."""
        self.gone = True
        if self._call is not None:
            self._call()


def peer_of(scope: Mapping[str, Any]) -> Peer:
    """The client of a request."""
    return scope.get(KEY) or Peer()
