"""Store of files and batches in a Redis or Valkey, in which a tenant sees only its own."""

import time
from collections.abc import Callable
from typing import Any

from service.plugins.batches import refusals
from service.plugins.batches.records import UNFINISHED, Arrival, Batch, Page, Purpose, StoredFile
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.shared.fields import batch_of, packed
from service.plugins.batches.shared.records import ROOT, SharedRecords, paired
from service.plugins.batches.shared.scripts import (
    ADD_FILE,
    CANCEL,
    CREATE,
    DELETE_FILE,
    GIVE_BACK,
    RESERVE,
)


class SharedStore:
    """Files and batches by tenant; implements `batches.store.BatchStore`.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        records: SharedRecords,
        settings: BatchSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._settings = settings
        self._limits = (settings.max_files, settings.max_file_bytes, settings.tenant_bytes)
        self._clock = clock

    async def reserve(self, arrival: Arrival) -> int:
        now = int(self._clock())
        found = await self._records.run(RESERVE, packed(arrival), now, *self._limits)
        return max(0, min(arrival.bytes, refusals.space_of(self._settings, *found)))

    async def give_back(self, file_id: str) -> None:
        await self._records.run(GIVE_BACK, file_id)

    async def add_file(self, file: StoredFile) -> None:
        refused = await self._records.run(ADD_FILE, packed(file), *self._limits)
        if refused is not None:
            raise refusals.too_large(self._settings, refusals.space_of(self._settings, *refused))

    async def file(self, tenant: str, file_id: str) -> StoredFile:
        found = await self._records.files([file_id])
        if not found or found[0].tenant != tenant:
            raise refusals.unknown("file", file_id)
        return found[0]

    async def files(
        self, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        limit = None if purpose else page.limit + 1
        found = await self._records.files(await self._listed("files", tenant, page, limit))
        wanted = [file for file in found if purpose in (None, file.purpose)]
        return wanted[: page.limit], len(wanted) > page.limit

    async def delete_file(self, tenant: str, file_id: str) -> None:
        reader = await self._records.run(DELETE_FILE, tenant, file_id)
        if reader is None:
            raise refusals.unknown("file", file_id)
        if reader:
            raise refusals.in_use(reader.decode())

    async def create(self, batch: Batch) -> Batch:
        batch = batch.named()
        settings = self._settings
        limits = (settings.max_batches, settings.max_ended, settings.max_files)
        answer = await self._records.run(CREATE, packed(batch), Purpose.BATCH, *limits)
        refused = answer.decode()
        if refused == "unknown":
            raise refusals.no_input(batch)
        if refused == "full":
            raise refusals.too_many(settings)
        if refused == "crowded":
            raise refusals.no_room_for_results(settings)
        if refused:
            raise refusals.not_for_batches(refused)
        return batch

    async def batch(self, tenant: str, batch_id: str) -> Batch:
        found = await self._records.batches([batch_id])
        if not found or found[0].tenant != tenant:
            raise refusals.unknown("batch", batch_id)
        return found[0]

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        ids = await self._listed("batches", tenant, page, page.limit + 1)
        found = await self._records.batches(ids)
        return found[: page.limit], len(found) > page.limit

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        fields = await self._records.run(CANCEL, tenant, batch_id, int(self._clock()))
        if not fields:
            raise refusals.unknown("batch", batch_id)
        batch = batch_of(paired(fields))
        if batch.status not in UNFINISHED:
            raise refusals.ended_already(batch)
        return batch

    async def _listed(self, kind: str, tenant: str, page: Page, limit: int | None) -> list[bytes]:
        """Ids after the page's record, at most `limit`."""
        key = f"{ROOT}{kind}/{tenant}"
        after: str | float | None = "+inf" if page.newest_first else "-inf"
        if page.after is not None:
            number = await self._records.ask(lambda client: client.zscore(key, page.after))
            if number is None:
                raise refusals.not_listed(page.after)
            after = f"({number:.0f}"

        def read(client: Any) -> Any:
            part = {} if limit is None else {"start": 0, "num": limit}
            if page.newest_first:
                return client.zrevrangebyscore(key, after, "-inf", **part)
            return client.zrangebyscore(key, after, "+inf", **part)

        found: list[bytes] = await self._records.ask(read)
        return found
