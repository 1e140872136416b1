"""Tokens of running streams, charged together for each turn of the loop."""

import asyncio

from service.gate.scheduler import Scheduler
from service.gate.ticket import Ticket


class Charges:
    """Gathers the new output tokens of one turn of the loop, in which an engine's step is taken in.

    A step has tokens for each stream, and one charge for all costs a fraction of one for each.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._made: list[tuple[Ticket, int]] = []

    def add(self, ticket: Ticket, tokens: int) -> None:
        """Charge new output tokens of a running ticket, at the end of this turn."""
        if not self._made:
            asyncio.get_running_loop().call_soon(self.settle)
        self._made.append((ticket, tokens))

    def settle(self) -> None:
        """Charge what was gathered."""
        if self._made:
            made, self._made = self._made, []
            self.scheduler.charge_step(made)
