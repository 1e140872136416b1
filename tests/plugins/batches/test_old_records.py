"""Records that release 0.1 wrote, in the folder `kept_by_0_1`: they are read, and run on."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import redis

from service.plugins.batches.local_store import DATABASE
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import Answer, Page, Problem, Purpose, Status, StoredFile
from tests.plugins.batches.places import open_store

OLD = Path(__file__).parent / "kept_by_0_1"
NOW = 1_800_000_000
ADDRESS = "s3://bucket/batches"


def write_old(path: Path, storage: str | None) -> None:
    """Write the records as the release left them."""
    if storage is None:
        with closing(sqlite3.connect(path / DATABASE)) as connection:
            connection.executescript((OLD / "batches.sql").read_text(encoding="utf-8"))
        (path / "pointers").mkdir()
        (path / "pointers/file-in").write_text(ADDRESS, encoding="utf-8")
        return
    kept = json.loads((OLD / "redis.json").read_text(encoding="utf-8"))
    with redis.Redis.from_url(storage) as client:
        for key, text in kept["strings"].items():
            client.set(key, text)
        for key, fields in kept["hashes"].items():
            client.hset(key, mapping=fields)
        for key, numbers in kept["sorted sets"].items():
            client.zadd(key, numbers)


async def test_records_of_an_earlier_release_are_read_and_their_batches_run_on(
    tmp_path: Path, storage: str | None
) -> None:
    write_old(tmp_path, storage)
    store = open_store(tmp_path, storage, BatchSettings(), lambda: NOW)
    files, _ = await store.files("a", Page())
    assert [file.id for file in files] == ["file-out", "file-in"]
    assert files[1] == StoredFile("file-in", "a", "in.jsonl", Purpose.BATCH, 10, NOW, NOW + 86_400)
    assert await store.address_of("file-in") == ADDRESS
    assert await store.used_bytes("a") == 10 + 2 + 16 + 100
    (done, failed, runs), _ = await store.batches("a", Page())
    assert (done.status, done.output_file_id) == (Status.COMPLETED, "file-out")
    assert done.times[Status.FINALIZING] == NOW
    assert failed.problems == (Problem("invalid_json_line", "bad", 2, "body"),)
    assert (runs.metadata, runs.total, runs.completed, runs.failed) == ({"job": "7"}, 3, 1, 1)
    assert await store.unfinished() == [runs]

    lease = await store.take(runs.id)
    assert lease is not None
    assert await lease.answered() == {1, 3}
    await lease.record([Answer(1, False, b"again\n"), Answer(2, False, b"new\n")])
    output, errors = tmp_path / "output", tmp_path / "errors"
    await lease.write(output, errors)
    assert (output.read_bytes(), errors.read_bytes()) == (b'{"a":1}\nnew\n', b'{"e":1}\n')
    await lease.finish(Status.COMPLETED, None, None)
    await lease.release()
    assert [batch.id for batch in await store.ended(1)] == [done.id]
    assert await store.used_bytes("a") == 10 + 2 + 100
    await store.close()
