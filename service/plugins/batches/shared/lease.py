"""Lease of a batch among replicas: it ends unless its holder renews it."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress

from service.errors import Unavailable
from service.plugins.batches.shared.journal import SharedJournal
from service.plugins.batches.shared.records import SharedRecords
from service.plugins.batches.shared.scripts import RELEASE, RENEW, TAKE

LEASE_SECONDS = 15.0
_RENEWALS = 5
"""Renewals within a lease, so that a moment without an answer loses none."""


class SharedLease:
    """A lease that this process renews until it is released; implements `batches.store.Lease`.

    A holder that dies or stops keeps it for LEASE_SECONDS at most. What a holder writes after the
    end is refused by the token, which no other lease has; no clock of a replica counts.
    """

    def __init__(
        self, records: SharedRecords, batch_id: str, token: str, journal: SharedJournal
    ) -> None:
        self._records = records
        self._named = (batch_id, token)
        self.journal = journal
        self._renewing = asyncio.create_task(self._renew())

    @classmethod
    async def take(
        cls, records: SharedRecords, batch_id: str, clock: Callable[[], float]
    ) -> "SharedLease | None":
        """The lease; None while another process holds it."""
        token = secrets.token_hex(16)
        if not await records.run(TAKE, batch_id, token, _milliseconds()):
            return None
        return cls(records, batch_id, token, SharedJournal(records, batch_id, token, clock))

    async def _renew(self) -> None:
        """Renew until the lease has ended, which the next write is told."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / _RENEWALS)
            with suppress(Unavailable):
                if not await self._records.run(RENEW, *self._named, _milliseconds()):
                    return

    async def release(self) -> None:
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        # Where no answer comes, the lease ends by itself.
        with suppress(Unavailable):
            await self._records.run(RELEASE, *self._named)


def _milliseconds() -> int:
    return int(LEASE_SECONDS * 1000)
