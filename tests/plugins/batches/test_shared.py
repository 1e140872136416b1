"""Records in a Redis: leases that end, writes that come too late, and a server that is away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from loadtests.processes import eventually
from service.errors import ConfigurationError, Unavailable
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import (
    Answer,
    Batch,
    LeaseLost,
    Page,
    Purpose,
    Reservation,
    Status,
    StoredFile,
)
from tests.plugins.batches.places import Opened, opened
from tests.tenants.redis_server import RedisServer

NOW = 1_800_000_000


@pytest.fixture
async def replicas(redis: RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Opened, Opened]]:
    """Records of two replicas in one Redis, which is empty."""
    redis.kill()
    redis.start()
    one, two = (
        opened(tmp_path / name, redis.url, BatchSettings(), lambda: float(NOW)) for name in "ab"
    )
    yield one, two
    redis.thaw()
    for each in (one, two):
        await each.store.close()


async def made(kept: Opened) -> Batch:
    file = StoredFile("f", "a", "in.jsonl", Purpose.BATCH, 10, NOW, NOW + 100)
    await kept.store.add_file(file)
    return await kept.store.create(
        Batch("", "a", "/v1/generate", "f", "24h", NOW, NOW + 60, keep_seconds=100)
    )


async def test_a_lease_is_held_as_long_as_its_holder_lives(
    replicas: tuple[Opened, Opened], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.batches.shared_store.RENEWALS", 150)  # one in 0.1 s
    one, two = replicas
    batch = await made(one)
    lease = await one.store.take(batch.id)
    assert lease is not None
    redis.end_in(5, "*lease/*")
    await eventually(lambda: redis.ends_in("*lease/*") > 5)
    assert await two.store.take(batch.id) is None
    await lease.release()
    taken = await two.store.take(batch.id)
    assert taken is not None
    assert await one.store.take(batch.id) is None
    await taken.release()


async def test_what_a_holder_writes_after_its_lease_is_refused(
    replicas: tuple[Opened, Opened], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = replicas
    batch = await made(one)
    monkeypatch.setattr("service.plugins.batches.shared_store.LEASE_SECONDS", 600)
    # A holder that is paused.
    monkeypatch.setattr("service.plugins.batches.shared_store.RENEWALS", 0.001)
    paused = await one.store.take(batch.id)
    assert paused is not None
    await paused.move(Status.VALIDATING, Status.IN_PROGRESS, total=2)
    await paused.record([Answer(1, failed=False, body=b"kept\n")])
    redis.end_in(0, "*lease/*")
    late = Answer(2, failed=False, body=b"late\n")
    with pytest.raises(LeaseLost):  # which nobody else has yet
        await paused.record([late])
    lease = await two.store.take(batch.id)
    assert lease is not None
    for write in (
        paused.record(()),
        paused.record([late]),
        paused.move(Status.VALIDATING, Status.IN_PROGRESS, total=7),
        paused.move(Status.VALIDATING, Status.FAILED),
        paused.move(Status.IN_PROGRESS, Status.FINALIZING),
        paused.finish(Status.COMPLETED, None, None),
    ):
        with pytest.raises(LeaseLost):
            await write
    await paused.release()  # the other's stays
    assert await one.store.take(batch.id) is None
    assert await lease.answered() == {1}
    found = await two.store.batch("a", batch.id)
    assert (found.status, found.total, found.completed) == (Status.IN_PROGRESS, 2, 1)
    await lease.release()


async def test_a_reservation_that_is_sent_again_counts_once(
    replicas: tuple[Opened, Opened],
) -> None:
    one, two = replicas
    lease = await one.store.take((await made(one)).id)
    assert lease is not None
    for each in (one, two, one):
        assert await each.store.reserve(Reservation("g", "a", 500, NOW + 60)) == 500
    assert await one.store.used_bytes("a") == 510
    await two.store.cancel_reservation("g")
    assert await one.store.used_bytes("a") == 10
    await lease.release()


async def test_long_lists_are_read_a_few_records_at_a_time(
    replicas: tuple[Opened, Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = replicas
    monkeypatch.setattr("service.plugins.batches.shared_store.RECORDS_AT_ONCE", 2)
    batch = await made(one)
    names = ["f", *(f"g{number}" for number in range(6))]
    for name in names[1:]:
        file = StoredFile(name, "a", "in.jsonl", Purpose.BATCH, 10, NOW, NOW + 100)
        await one.store.add_file(file)
    found, more = await one.store.files("a", Page(limit=5))
    assert ([file.id for file in found], more) == (names[:1:-1], True)
    assert await one.store.expire(1000) == ([], set(names), {batch.id})


@pytest.mark.parametrize("limit", [0, 15, 1 << 20])
async def test_long_answers_are_written_a_few_at_a_time(
    replicas: tuple[Opened, Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("service.plugins.batches.shared_store.ANSWER_BYTES", limit)
    one, _ = replicas
    lease = await one.store.take((await made(one)).id)
    assert lease is not None
    await lease.move(Status.VALIDATING, Status.IN_PROGRESS, total=70)
    lines = [b'{"line": %d}\n' % line for line in range(1, 71)]
    await lease.record(Answer(line, line % 7 == 0, lines[line - 1]) for line in range(1, 71))
    output, errors = tmp_path / "output", tmp_path / "errors"
    await lease.write(output, errors)
    assert errors.read_bytes() == b"".join(lines[6::7])
    assert output.read_bytes() == b"".join(each for n, each in enumerate(lines, 1) if n % 7)
    await lease.release()


async def test_a_batch_that_has_ended_has_no_lease(replicas: tuple[Opened, Opened]) -> None:
    one, two = replicas
    batch = await made(one)
    lease = await one.store.take(batch.id)
    assert lease is not None
    await lease.finish(Status.CANCELLED, None, None)
    await lease.release()
    assert await two.store.take(batch.id) is None


async def test_a_server_that_is_away_is_told_and_lost_leases_end(
    replicas: tuple[Opened, Opened], redis: RedisServer
) -> None:
    one, _ = replicas
    batch = await made(one)
    lease = await one.store.take(batch.id)
    assert lease is not None
    redis.kill()
    for asked in (
        one.store.reserve(Reservation("g", "a", 1, NOW + 60)),
        one.store.cancel_reservation("g"),
        one.store.file("a", "f"),
        one.store.files("a", Page()),
        one.store.cancel("a", batch.id),
        one.store.unfinished(),
        one.store.take(batch.id),
        lease.record([]),
        one.folder.bucket_of("f"),
    ):
        with pytest.raises(Unavailable, match="store of batches cannot be reached") as raised:
            await asked
        assert (raised.value.code, raised.value.retry_after) == ("store_unavailable", 5)
    redis.start()  # with nothing in it
    with pytest.raises(LeaseLost):
        await lease.record([])
    await lease.release()


async def test_an_address_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"batches\.storage: cannot be used") as raised:
        opened(tmp_path, "nonsense://key:secret@host", BatchSettings(), lambda: 0.0)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("rest", [{}, {"path": "x"}, {"files": "s3://a/b"}])
def test_records_are_shared_with_their_files_only(rest: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="storage needs files, which replicas share"):
        BatchSettings.model_validate(rest | {"storage": "valkey://valkey:6379"})
