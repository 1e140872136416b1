"""Refusals that reach a client late, because it did not wait as long as it was asked to.

A refused request costs about 0.2 ms of the processor. Clients that ask again at
once, each on its connection, would take the processor from the requests that are served.
"""

import asyncio
import time

from service.api.exchange import Exchange
from service.api.peer import Pause
from service.context import RequestContext
from service.per_second import PerSecond

_LONGEST_PAUSE_SECONDS = 2.0
"""Longest time for which a refusal is held. Each connection may have one that is held."""
_HELD_BYTES = 64 * 1024
"""Largest body whose refusal waits: all that wait keep their bodies in memory."""


class LateRefusals:
    """Holds a tenant's refusals back, once it has had many in a second.

    The first ones of each second are sent at once. A later one waits until the `Retry-After` of its
    connection's last refusal is over, at most two seconds.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = PerSecond(at_once)

    async def hold(self, exchange: Exchange) -> None:
        """Wait until the gate's refusal of this request may be sent, at most to its deadline."""
        pause, context = exchange.peer.pause, exchange.context
        refusal = context.gate_refusal
        if refusal is None or pause is None:
            return
        prompt = self._at_once.allows(context.tenant.name)
        if not prompt and context.body_bytes <= _HELD_BYTES:
            await asyncio.sleep(_left(pause, context))
        seconds = min(refusal.retry_after or 0.0, _LONGEST_PAUSE_SECONDS)
        pause.until = time.monotonic() + seconds


def _left(pause: Pause, context: RequestContext) -> float:
    return max(0.0, min(pause.until, context.deadline) - time.monotonic())
