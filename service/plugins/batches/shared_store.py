"""Records of batches in a Redis or Valkey, which all replicas share."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from service.common.redis_client import KEY_PREFIX, ScriptStore
from service.errors import Unavailable
from service.plugins.batches import shared_scripts as scripts
from service.plugins.batches.disk import ORPHAN_SECONDS
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import (
    Answer,
    Batch,
    LeaseLost,
    Page,
    Problem,
    Purpose,
    Reservation,
    Status,
    StoredFile,
    check_cancellation,
    check_creation,
    free_space,
    in_use,
    not_listed,
    too_large,
    unknown,
)

Record = TypeVar("Record", StoredFile, Batch)

ROOT = f"{KEY_PREFIX}/{{batches}}/"
"""Beginning of every key; the braces keep them on one node of a cluster."""
LEASE_SECONDS = 15.0
RENEWALS = 5
"""Renewals in the duration of a lease, so that no lease is lost by a missed one."""
RECORDS_AT_ONCE = 64
"""Records in one read: redis-py parses an answer, some us an element, in one go."""
_ANSWERS_AT_ONCE = 32
ANSWER_BYTES = 8 << 20
"""Bytes after which a read of answers ends: one answer may have 20 MB."""

_POINTERS = f"{ROOT}pointers"
_KEYS: dict[type, str] = {StoredFile: "file", Batch: "batch"}
_OUTCOMES = ("completed", "failed")
_TIMES = "times."
_NUMBERS = {
    *("bytes", "created_at", "expires_at", "keep_seconds", "total", "completed", "failed"),
    *("moved_at", "answer_bytes"),
}
_JSON = {"metadata", "problems"}


class SharedStore(ScriptStore):
    """Records at an address of `batches.storage`; implements `store.Store`.

    Does not connect before the first call. `clock` gives seconds since 1970. Raises
    ConfigurationError for an invalid address.
    """

    def __init__(
        self, address: str, settings: BatchSettings, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(address, "batches.storage", ROOT, "batches")
        self._settings = settings
        self._limits = (settings.max_files, settings.max_file_bytes, settings.tenant_bytes)
        self._clock = clock

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    async def reserve(self, reservation: Reservation) -> int:
        found = await self.run(scripts.RESERVE, _packed(reservation), self.now, *self._limits)
        return max(0, min(reservation.bytes, free_space(self._settings, *found)))

    async def cancel_reservation(self, file_id: str) -> None:
        await self.run(scripts.CANCEL_RESERVATION, file_id)

    async def used_bytes(self, tenant: str) -> int:
        return int(await self.ask(lambda client: client.hget(f"{ROOT}held", tenant)) or 0)

    async def add_file(self, file: StoredFile) -> None:
        refused = await self.run(scripts.ADD_FILE, _packed(file), *self._limits)
        if refused is not None:
            raise too_large(self._settings, free_space(self._settings, *refused))

    async def file(self, tenant: str, file_id: str) -> StoredFile:
        for file in await self._read(StoredFile, [file_id]):
            if file.tenant == tenant:
                return file
        raise unknown("file", file_id)

    async def files(
        self, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        limit = None if purpose else page.limit + 1
        found = await self._read(StoredFile, await self._list("files", tenant, page, limit))
        wanted = [file for file in found if purpose in (None, file.purpose)]
        return wanted[: page.limit], len(wanted) > page.limit

    async def delete_file(self, tenant: str, file_id: str) -> None:
        reader = await self.run(scripts.DELETE_FILE, tenant, file_id)
        if reader is None:
            raise unknown("file", file_id)
        if reader:
            raise in_use(reader.decode())

    async def create(self, batch: Batch) -> Batch:
        batch, settings = batch.under_new_id(), self._settings
        limits = (settings.max_batches, settings.max_ended, settings.max_files)
        refused = await self.run(scripts.CREATE, _packed(batch), Purpose.BATCH, *limits)
        if refused is not None:
            purpose, *counts = refused
            check_creation(settings, batch, purpose and purpose.decode(), *counts)
        return batch

    async def batch(self, tenant: str | None, batch_id: str) -> Batch:
        for batch in await self._read(Batch, [batch_id]):
            if tenant in (None, batch.tenant):
                return batch
        raise unknown("batch", batch_id)

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        ids = await self._list("batches", tenant, page, page.limit + 1)
        found = await self._read(Batch, ids)
        return found[: page.limit], len(found) > page.limit

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        fields = await self.run(scripts.CANCEL, tenant, batch_id, self.now)
        if not fields:
            raise unknown("batch", batch_id)
        batch = _unpacked(Batch, _paired(fields))
        check_cancellation(batch)
        return batch

    async def unfinished(self) -> list[Batch]:
        key = f"{ROOT}unfinished"
        return await self._read(Batch, await self.ask(lambda client: client.zrange(key, 0, -1)))

    async def ended(self, limit: int) -> list[Batch]:
        key = f"{ROOT}ended"
        ids = await self.ask(lambda client: client.zrevrange(key, 0, limit - 1))
        return await self._read(Batch, ids)

    async def take(self, batch_id: str) -> "SharedLease | None":
        token = secrets.token_hex(16)
        taken = await self.run(scripts.TAKE, batch_id, token, int(LEASE_SECONDS * 1000))
        return SharedLease(self, batch_id, token) if taken else None

    async def expire(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        answer = await self.run(scripts.EXPIRE, self.now, self.now - keep_seconds)
        removed, files, running = (text.decode().split() for text in answer)
        return removed, set(files), set(running)

    async def keep_address(self, file_id: str, address: str) -> None:
        value = f"{int(time.time())} {address}"
        await self.ask(lambda client: client.hset(_POINTERS, file_id, value))

    async def address_of(self, file_id: str) -> str | None:
        value = await self.ask(lambda client: client.hget(_POINTERS, file_id))
        return None if value is None else value.decode().partition(" ")[2]

    async def forget_address(self, file_id: str) -> None:
        await self.ask(lambda client: client.hdel(_POINTERS, file_id))

    async def list_orphans(self, known: Collection[str]) -> list[str]:
        oldest = time.time() - ORPHAN_SECONDS

        async def old(client: Any) -> list[str]:
            return [
                file_id.decode()
                async for file_id, value in client.hscan_iter(_POINTERS)
                if int(value.partition(b" ")[0]) < oldest
            ]

        return [file_id for file_id in await self.ask(old) if file_id not in known]

    async def _list(self, kind: str, tenant: str, page: Page, limit: int | None) -> list[bytes]:
        """Ids of the page, which begins after the record `page.after`; at most `limit`."""
        key = f"{ROOT}{kind}/{tenant}"
        after = "+inf" if page.newest_first else "-inf"
        if page.after is not None:
            number = await self.ask(lambda client: client.zscore(key, page.after))
            if number is None:
                raise not_listed(page.after)
            after = f"({number:.0f}"

        def read(client: Any) -> Any:
            part = {} if limit is None else {"start": 0, "num": limit}
            if page.newest_first:
                return client.zrevrangebyscore(key, after, "-inf", **part)
            return client.zrangebyscore(key, after, "+inf", **part)

        found: list[bytes] = await self.ask(read)
        return found

    async def _read(self, kind: type[Record], ids: Iterable[bytes | str]) -> list[Record]:
        """The records of these ids, without those that are gone."""
        names = [each.decode() if isinstance(each, bytes) else each for each in ids]
        keys = [f"{ROOT}{_KEYS[kind]}/{name}" for name in names]
        found: list[Record] = []
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            hashes = await self.ask(partial(_hashes, keys[start : start + RECORDS_AT_ONCE]))
            found += [_unpacked(kind, fields) for fields in hashes if fields]
        return found


class SharedLease:
    """A lease that this process renews until it is released; implements `store.Lease`.

    If the holder dies or hangs, the lease ends within LEASE_SECONDS. Every script that writes first
    checks that the lease still has this holder's `token` (a fencing token), so the replicas' clocks
    need not agree.
    """

    def __init__(self, store: SharedStore, batch_id: str, token: str) -> None:
        self._store = store
        self._id = batch_id
        self._token = token
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew the lease until it is lost; the next write then raises LeaseLost."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / RENEWALS)
            with suppress(Unavailable):
                if not await self._end_in(LEASE_SECONDS):
                    return

    async def release(self) -> None:
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        # If the store does not answer, the lease ends by itself.
        with suppress(Unavailable):
            await self._end_in(0)

    async def _end_in(self, seconds: float) -> Any:
        """Let the lease end after so many seconds; an empty answer if it has ended already."""
        return await self._store.run(scripts.END_IN, self._id, self._token, int(seconds * 1000))

    async def record(self, answers: Iterable[Answer]) -> Batch:
        flat: list[str | int | bytes] = []
        for answer in answers:
            flat += [answer.line, _OUTCOMES[answer.failed], answer.body]
        return await self._run(scripts.RECORD, *flat)

    async def move(
        self, before: Status, after: Status, *, total: int = 0, problems: Sequence[Problem] = ()
    ) -> Batch:
        found: tuple[str | int, ...] = ("total", total) if total else ()
        if problems:
            found = ("problems", json.dumps([asdict(problem) for problem in problems]))
        return await self._run(scripts.MOVE, before, after, *found)

    async def answered(self) -> set[int]:
        lines = await self._store.run(scripts.ANSWERED, self._id)
        return set(map(int, lines.split()))

    async def write(self, output: Path, errors: Path) -> None:
        """Write both files, a few answers at a time."""
        lines = sorted(await self.answered())
        paths = (output, errors)
        for path in paths:
            await asyncio.to_thread(path.touch, exist_ok=False)
        written = 0
        while written < len(lines):
            part = lines[written : written + _ANSWERS_AT_ONCE]
            read = await self._store.run(scripts.ANSWERS, self._id, ANSWER_BYTES, *part)
            if read is None:
                raise LeaseLost(self._id)  # another holder ended the batch
            await asyncio.to_thread(_append, paths, [answer.split(b":", 1) for answer in read])
            written += len(read)

    async def finish(
        self, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        files = ("" if file is None else _packed(file) for file in (output, errors))
        return await self._run(scripts.FINISH, status, *files)

    async def _run(self, script: str, *arguments: str | int | bytes) -> Batch:
        """The batch after a script that writes; LeaseLost if it wrote nothing."""
        named = (self._id, self._token, self._store.now)
        if not (fields := await self._store.run(script, *named, *arguments)):
            raise LeaseLost(self._id)
        return _unpacked(Batch, _paired(fields))


def _append(paths: Sequence[Path], answers: Iterable[Sequence[bytes]]) -> None:
    """Append each answer to the file of its outcome, which comes before it in `answers`."""
    bodies: dict[bytes, list[bytes]] = {outcome.encode(): [] for outcome in _OUTCOMES}
    for outcome, body in answers:
        bodies[outcome].append(body)
    for path, lines in zip(paths, bodies.values(), strict=True):
        with path.open("ab") as file:
            file.writelines(lines)


async def _hashes(keys: Iterable[str], client: Any) -> list[Mapping[bytes, bytes]]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    found: list[Mapping[bytes, bytes]] = await pipeline.execute()
    return found


def _paired(flat: list[bytes]) -> dict[bytes, bytes]:
    """The fields of a hash that a script returned."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _packed(record: StoredFile | Reservation | Batch) -> str:
    """The fields of a record as JSON for a script, without those that are None.

    A batch must be new, without times.
    """
    row = asdict(record)
    row.pop("times", None)
    row |= {name: json.dumps(row[name]) for name in _JSON & row.keys()}
    return json.dumps({name: str(value) for name, value in row.items() if value is not None})


def _unpacked(kind: type[Record], fields: Mapping[bytes, bytes]) -> Record:
    """The record whose fields a hash has as texts."""
    row: dict[str, Any] = {"times": {}} if kind is Batch else {}
    for name, value in ((name.decode(), value.decode()) for name, value in fields.items()):
        if name.startswith(_TIMES):
            row["times"][name.removeprefix(_TIMES)] = int(value)
        elif name in _NUMBERS:
            row[name] = int(value)
        else:
            row[name] = json.loads(value) if name in _JSON else value
    return kind.of(row)
