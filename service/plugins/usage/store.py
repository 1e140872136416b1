"""The interface of a store of usage."""

from typing import Protocol

from service.plugins.usage.row import Batch, Question, UsageRow


class UsageStore(Protocol):
    """Keeps usage by the hour; its calls raise Unavailable while it cannot be reached."""

    async def add(self, batch: Batch) -> None:
        """Add the counts of a batch, once however often the same batch is given."""

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows of these periods, ordered by their start and kind."""

    async def forget(self, hour: int) -> None:
        """Remove the counts of all hours (since 1970) before this one."""

    async def close(self) -> None:
        """Finish what was begun, and close files or connections."""
