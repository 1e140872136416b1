"""Lease of a batch among replicas: it ends unless its holder renews it."""

import asyncio
from contextlib import suppress

from service.batches.shared.journal import SharedJournal
from service.batches.shared.records import SharedRecords
from service.batches.shared.scripts import RELEASE, RENEW
from service.errors import Unavailable

LEASE_SECONDS = 15.0
_RENEWALS = 5
"""Renewals within a lease, so that a moment without an answer loses none."""


class SharedLease:
    """A lease that this process has taken, and renews until it is released; implements
    `batches.store.Lease`.

    A holder that dies or stops has it for `seconds` more. What a holder writes after the end is
    refused by the token, which no other lease has; no clock of a replica counts.
    """

    def __init__(
        self,
        records: SharedRecords,
        journal: SharedJournal,
        batch_id: str,
        token: str,
        seconds: float,
    ) -> None:
        self._records = records
        self.journal = journal
        self._named = (batch_id, token)
        self._seconds = seconds
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew until the lease has ended, which the next write is told."""
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            with suppress(Unavailable):
                milliseconds = int(self._seconds * 1000)
                if not await self._records.run(RENEW, *self._named, milliseconds):
                    return

    async def release(self) -> None:
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        # Where no answer comes, the lease ends by itself.
        with suppress(Unavailable):
            await self._records.run(RELEASE, *self._named)
