"""The store: each tenant sees and changes its own files and batches only, within its limits."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import InvalidRequest, NotFound, Unavailable
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import (
    Answer,
    Batch,
    Lease,
    Page,
    Problem,
    Purpose,
    Reservation,
    Status,
    StoredFile,
)
from tests.plugins.batches.places import open_store

NOW = 1_800_000_000
LIMITS = BatchSettings(
    max_files=3, max_file_bytes=1024, tenant_bytes=1500, max_batches=2, max_ended=2
)


class Site:
    """A store and what is written beside it, at a time that a test sets."""

    def __init__(self, path: Path, storage: str | None) -> None:
        self.now = NOW
        self.store = open_store(path, storage, LIMITS, lambda: self.now)
        self._leases: list[Lease] = []

    async def file(self, name: str, tenant: str = "a", size: int = 10) -> StoredFile:
        purpose = Purpose.OUTPUT if name.endswith("output") else Purpose.BATCH
        file = StoredFile(name, tenant, "in.jsonl", purpose, size, self.now, self.now + 100)
        await self.store.add_file(file)
        return file

    async def reserved(self, name: str, tenant: str = "a", size: int = 2000) -> int:
        """Bytes that are reserved for a file of this size, for a minute."""
        return await self.store.reserve(Reservation(name, tenant, size, self.now + 60))

    async def batch(self, tenant: str = "a", file: str = "f") -> Batch:
        return await self.store.create(
            Batch("", tenant, "/v1/generate", file, "24h", NOW, NOW + 60, 100, {"k": "v"})
        )

    async def lease(self, batch: Batch) -> Lease:
        """The batch's lease, which ends with the site."""
        lease = await self.store.take(batch.id)
        assert lease is not None
        self._leases.append(lease)
        return lease

    async def release(self) -> None:
        """Release the leases that are held."""
        while self._leases:
            await self._leases.pop().release()

    async def close(self) -> None:
        """Release what is held."""
        await self.release()
        await self.store.close()


@pytest.fixture
async def kept(tmp_path: Path, storage: str | None) -> AsyncIterator[Site]:
    site = Site(tmp_path, storage)
    yield site
    await site.close()


async def test_of_a_tenants_ended_batches_the_oldest_give_way(kept: Site) -> None:
    await kept.file("f")
    await kept.file("g", tenant="b")
    await end(kept, other := await kept.batch("b", "g"))
    running, ended = await kept.batch(), list[Batch]()
    for _ in range(4):
        ended.append(await kept.batch())
        await end(kept, ended[-1])
    last = await kept.batch()
    found, _ = await kept.store.batches("a", Page())
    assert [each.id for each in found] == [last.id, ended[3].id, ended[2].id, running.id]
    assert {each.id for each in await kept.store.ended(9)} == {
        *(each.id for each in ended[2:]),
        other.id,
    }


async def end(kept: Site, batch: Batch) -> None:
    """Have a batch fail."""
    await (await kept.lease(batch)).move(
        Status.VALIDATING, Status.FAILED, problems=[Problem("empty_file", "none")]
    )


async def test_nobody_gets_the_lease_of_a_batch_that_has_ended(kept: Site) -> None:
    await kept.file("f")
    await end(kept, batch := await kept.batch())
    await kept.release()
    assert await kept.store.take(batch.id) is None


async def test_another_tenants_things_are_not_there(kept: Site) -> None:
    file = await kept.file("f")
    batch = await kept.batch()
    store = kept.store
    assert await store.file("a", "f") == file
    assert await store.batch("a", batch.id) == batch
    assert batch.metadata == {"k": "v"}
    for call in (
        store.file("b", "f"),
        store.delete_file("b", "f"),
        store.batch("b", batch.id),
        store.cancel("b", batch.id),
        store.file("a", "none"),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(InvalidRequest, match="there is no file 'f'") as refused:
        await kept.batch(tenant="b")
    assert refused.value.param == "input_file_id"
    assert await store.files("b", Page()) == ([], False)
    assert await store.batches("b", Page()) == ([], False)
    assert (await store.batch("a", batch.id)).status is Status.VALIDATING


async def test_lists_go_on_where_they_stopped_whatever_lies_between(kept: Site) -> None:
    for name in ("f1", "b-file", "f2", "f-output"):
        await kept.file(name, "b" if name == "b-file" else "a")
    pages: list[tuple[str, ...]] = []
    after, more = None, True
    while more:
        files, more = await kept.store.files("a", Page(after, 2))
        pages.append(tuple(file.id for file in files))
        after = files[-1].id
    assert pages == [("f-output", "f2"), ("f1",)]
    oldest, _ = await kept.store.files("a", Page(limit=1, newest_first=False))
    assert [file.id for file in oldest] == ["f1"]
    outputs, _ = await kept.store.files("a", Page(), Purpose.OUTPUT)
    assert [file.id for file in outputs] == ["f-output"]
    with pytest.raises(InvalidRequest, match="after: no 'b-file' in this list"):
        await kept.store.files("a", Page("b-file"))


async def test_files_are_limited_in_number_and_bytes(kept: Site) -> None:
    await kept.file("f1", size=1000)
    with pytest.raises(InvalidRequest, match="hold 1500 bytes together, and 500 are left"):
        await kept.file("f2", size=501)
    await kept.file("f2", size=1)
    await kept.file("f3", size=1)
    with pytest.raises(InvalidRequest, match="at most 3 files") as refused:
        await kept.file("f4", size=1)
    assert refused.value.code == "limit_reached"
    with pytest.raises(InvalidRequest, match="at most 3 files"):
        await kept.reserved("f4")
    await kept.store.delete_file("a", "f1")
    await kept.file("f4", size=1000)


async def test_what_comes_and_what_is_kept_stay_within_the_limit_together(kept: Site) -> None:
    assert await kept.reserved("f1") == 1024
    assert await kept.reserved("f2", size=100) == 100
    assert await kept.reserved("f3") == 1500 - 1124
    assert await kept.reserved("f4") == 0
    assert await kept.reserved("g1", tenant="b") == 1024
    with pytest.raises(InvalidRequest, match="1500 bytes together, and 0 are left"):
        await kept.file("f4", size=1)
    await kept.file("f1", size=24)  # less than was reserved for it
    assert await kept.reserved("f5", size=1000) == 1000
    await kept.store.cancel_reservation("f5")
    await kept.store.cancel_reservation("f5")
    await kept.store.cancel_reservation("f1")  # a file by now
    assert await kept.reserved("f6") == 1000


async def test_what_is_reserved_counts_against_answers_too(kept: Site) -> None:
    await kept.file("f")
    lease = await kept.lease(await kept.batch())
    await lease.record([Answer(1, False, b"answer")])
    await kept.reserved("f1", size=1000)
    assert await kept.store.used_bytes("a") == 1016


async def test_what_a_dead_process_reserved_is_free_after_its_time(kept: Site) -> None:
    await kept.file("f")
    await kept.batch()  # which keeps its file beyond the expiry
    assert await kept.reserved("f1") == 1024
    assert await kept.reserved("f2") == 1490 - 1024
    kept.now += 59
    assert await kept.reserved("f3") == 0
    kept.now += 1
    assert await kept.reserved("f4") == 1024
    kept.now += 60
    await kept.store.expire(1000)
    assert await kept.store.used_bytes("a") == 10


async def test_batches_are_limited_while_they_run(kept: Site) -> None:
    await kept.file("f")
    await kept.file("f-output")
    first, _ = await kept.batch(), await kept.batch()
    with pytest.raises(InvalidRequest, match="at most 2 unfinished batches"):
        await kept.batch()
    await (await kept.lease(first)).move(
        Status.VALIDATING, Status.FAILED, problems=[Problem("empty_file", "Nothing.")]
    )
    await kept.batch()
    with pytest.raises(InvalidRequest, match="purpose must be batch, got batch_output"):
        await kept.batch(file="f-output")


async def test_results_of_many_small_batches_are_limited_as_files_are(kept: Site) -> None:
    file = await kept.file("f")
    for name in ("o1", "o2"):
        lease = await kept.lease(await kept.batch())
        await lease.finish(Status.COMPLETED, replace(file, id=name), None)
    with pytest.raises(InvalidRequest, match="at most 3 files, and the batch would write") as full:
        await kept.batch()
    assert (full.value.code, full.value.param) == ("limit_reached", "input_file_id")
    await kept.file("g", "b")
    await kept.batch("b", "g")
    await kept.store.delete_file("a", "o1")
    await kept.batch()


async def test_a_file_is_kept_while_a_batch_reads_it(kept: Site) -> None:
    await kept.file("f")
    batch = await kept.batch()
    kept.now += 1000
    assert await kept.store.expire(10_000) == ([], {"f"}, {batch.id})
    with pytest.raises(InvalidRequest, match=batch.id):
        await kept.store.delete_file("a", "f")
    await kept.store.cancel("a", batch.id)
    await (await kept.lease(batch)).finish(Status.CANCELLED, None, None)
    assert await kept.store.expire(10_000) == (["f"], set(), set())
    assert (await kept.store.batch("a", batch.id)).status is Status.CANCELLED
    await kept.store.expire(1000)
    with pytest.raises(NotFound):
        await kept.store.batch("a", batch.id)


async def test_a_line_is_answered_once(kept: Site, tmp_path: Path) -> None:
    await kept.file("f")
    lease = await kept.lease(await kept.batch())
    await lease.move(Status.VALIDATING, Status.IN_PROGRESS, total=4)
    await lease.record([Answer(10, False, b"first\n"), Answer(2, True, b"bad\n")])
    batch = await lease.record([Answer(10, True, b"second\n"), Answer(3, False, b"\xff: x\n")])
    assert (batch.total, batch.completed, batch.failed, batch.answer_bytes) == (4, 2, 1, 15)
    assert await lease.answered() == {10, 2, 3}
    assert await kept.store.used_bytes("a") == 25
    output, errors = tmp_path / "output", tmp_path / "errors"
    await lease.write(output, errors)
    assert output.read_bytes() == b"\xff: x\nfirst\n"
    assert errors.read_bytes() == b"bad\n"


async def test_a_batch_that_was_cancelled_meanwhile_stays_so(kept: Site) -> None:
    await kept.file("f")
    batch = await kept.batch()
    kept.now += 5
    cancelled = await kept.store.cancel("a", batch.id)
    assert cancelled.status is Status.CANCELLING
    assert cancelled.times[Status.CANCELLING] == NOW + 5
    lease = await kept.lease(batch)
    for call in (
        lease.move(Status.VALIDATING, Status.IN_PROGRESS, total=1),
        lease.move(Status.VALIDATING, Status.FAILED, problems=[]),
        lease.move(Status.IN_PROGRESS, Status.FINALIZING),
    ):
        assert (await call).status is Status.CANCELLING
    assert [each.id for each in await kept.store.unfinished()] == [batch.id]
    await lease.finish(Status.CANCELLED, None, None)
    with pytest.raises(InvalidRequest, match="has ended already, as cancelled"):
        await kept.store.cancel("a", batch.id)


async def test_the_files_of_the_results_come_with_the_end(kept: Site) -> None:
    file = await kept.file("f")
    lease = await kept.lease(await kept.batch())
    await lease.move(Status.VALIDATING, Status.IN_PROGRESS, total=1)
    await lease.record([Answer(1, False, b"answer")])
    output = replace(file, id="f-out", purpose=Purpose.OUTPUT)
    ended = await lease.finish(Status.COMPLETED, output, None)
    assert (ended.output_file_id, ended.error_file_id) == ("f-out", None)
    assert await kept.store.file("a", "f-out") == output
    assert await lease.answered() == set()
    assert await kept.store.used_bytes("a") == 20


async def test_problems_are_kept_as_they_were_found(kept: Site) -> None:
    await kept.file("f")
    batch = await kept.batch()
    problems = (Problem("invalid_json_line", "Ä \u2028", 7, "body"), Problem("empty_file", "None."))
    await (await kept.lease(batch)).move(Status.VALIDATING, Status.FAILED, problems=problems)
    assert (await kept.store.batch("a", batch.id)).problems == problems


async def test_an_operator_finds_batches_of_any_tenant(kept: Site) -> None:
    await kept.file("f")
    batch = await kept.batch()
    assert await kept.store.batch(None, batch.id) == batch
    with pytest.raises(NotFound):
        await kept.store.batch(None, "batch_none")


async def test_a_file_that_cannot_be_written_is_no_internal_error(tmp_path: Path) -> None:
    kept = Site(tmp_path, None)
    database = kept.store._database  # type: ignore[attr-defined]
    await database.run(lambda _: database._connection.execute("PRAGMA max_page_count = 20"))
    await kept.file("f")
    batch = await kept.batch()
    with pytest.raises(Unavailable) as full:
        await (await kept.lease(batch)).record([Answer(1, False, bytes(1 << 20))])
    assert full.value.code == "store_unavailable"
    assert (await kept.store.batch("a", batch.id)).completed == 0
    await kept.close()


async def test_unfinished_batches_are_listed_from_the_oldest_and_ended_ones_from_the_newest(
    kept: Site,
) -> None:
    for tenant in "abcd":
        await kept.file(f"f{tenant}", tenant)
    batches = [await kept.batch(tenant, f"f{tenant}") for tenant in "abcdabcd"]
    for batch in batches[1:5]:
        await (await kept.lease(batch)).finish(Status.COMPLETED, None, None)
    places = {batch.id: place for place, batch in enumerate(batches)}
    assert [places[batch.id] for batch in await kept.store.unfinished()] == [0, 5, 6, 7]
    assert [places[batch.id] for batch in await kept.store.ended(3)] == [4, 3, 2]
