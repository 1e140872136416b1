"""The right to run in the engine, which a stream holds until it ends."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import ServiceError
from service.gate.charges import Charges
from service.gate.interruption import Interruption
from service.gate.ticket import TOKENS_PER_SECOND, Ticket

Result = TypeVar("Result")


class Preempted(Exception):
    """The stream's slots are wanted for interactive work; it is to begin again."""


class Permit:
    """One started ticket; `queue_seconds` is how long it waited."""

    def __init__(
        self,
        charges: Charges,
        ticket: Ticket,
        queue_seconds: float,
        on_release: Callable[[Ticket], None],
    ) -> None:
        self.queue_seconds = queue_seconds
        self._charges = charges
        self._ticket = ticket
        self._on_release = on_release
        self._interruption = Interruption()
        self._held = True
        self.cut: Callable[[], bool] | None = None
        """Ends the stream with the text that it has; False if it has none yet."""

    @property
    def stepping(self) -> bool:
        """True while a step is under way."""
        return self._interruption.waiting

    async def wait(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Take a step of the engine; raises the error with which the gate ends this permit."""
        return await self._interruption.wait(step)

    def charge(self, prompt: int, cached: int, output: int, engine_wait: float | None) -> None:
        """Report the totals so far, as `Scheduler.charge`."""
        self._charges.settle()
        self._charges.scheduler.charge(
            self._ticket, prompt=prompt, cached=cached, output=output, engine_wait=engine_wait
        )

    def count(self, tokens: int) -> None:
        """Charge new output tokens, with those that other streams get in this turn of the loop."""
        self._charges.add(self._ticket, tokens)

    def charge_seconds(self, seconds: float) -> None:
        """Charge seconds of a core that the engine spent on this stream alone."""
        ticket = self._ticket
        self._charges.scheduler.debit(ticket.tenant, ticket.weight, seconds * TOKENS_PER_SECOND)

    @property
    def above_share(self) -> bool:
        """True if the tenant holds more slots than its share, and this is not background work."""
        return self._charges.scheduler.above_share(self._ticket)

    def interrupt(self, error: ServiceError | Preempted) -> None:
        """End the stream with this error at its next wait, or the one under way."""
        self._interruption.trigger(error)

    def release(self) -> None:
        """Give the slots back; a second call does nothing."""
        if self._held:
            self._held = False
            self.cut = None
            self._charges.settle()
            self._on_release(self._ticket)
