"""The folder of batches: where it may lie, what it removes, and its leases."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.processes import PATIENCE_S
from service.common.database import Database
from service.errors import ConfigurationError
from service.plugins.batches.folder import Folder
from service.plugins.batches.local_store import DATABASE, LocalStore
from service.plugins.batches.local_tables import VERSIONS
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import Batch, Purpose, StoredFile

OLD = 3 * 3600


def folder_at(path: Path) -> Folder:
    return Folder(path, LocalStore(path, BatchSettings()))


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / DATABASE, (*VERSIONS, "SELECT 1")).close()
    with pytest.raises(ConfigurationError, match="must be of version 2, is 3"):
        LocalStore(tmp_path, BatchSettings())


async def test_only_old_content_without_a_record_is_swept(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    kept, lost, upload, fresh = (
        folder.content("file-kept"),
        folder.content("file-lost"),
        folder.new_upload(),
        folder.new_upload(),
    )
    for path in (kept, lost, upload, fresh):
        path.write_text("")
        if path != fresh:
            os.utime(path, (time.time() - OLD,) * 2)
    await folder.sweep({"file-kept"}, {"batch_runs"})
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert [path.name for path in fresh.parent.iterdir()] == [fresh.name]
    assert fresh.parent == upload.parent


def test_the_uploads_of_a_killed_process_are_swept_at_once(tmp_path: Path) -> None:
    write = (
        "import sys, time; from pathlib import Path\n"
        "from service.plugins.batches.folder import Folder\n"
        "from service.plugins.batches.local_store import LocalStore\n"
        "from service.plugins.batches.settings import BatchSettings\n"
        "path = Path(sys.argv[1])\n"
        "upload = Folder(path, LocalStore(path, BatchSettings())).new_upload()\n"
        "upload.write_text('half')\n"
        "print(upload, flush=True)\n"
        "time.sleep(600)"
    )
    own = folder_at(tmp_path).new_upload()
    own.write_text("half")
    command = [sys.executable, "-c", write, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        upload = Path(writer.stdout.readline().strip())
        asyncio.run(folder_at(tmp_path).sweep((), ()))
        assert upload.read_text() == own.read_text() == "half"
        writer.send_signal(signal.SIGKILL)
        writer.wait(PATIENCE_S)
    asyncio.run(folder_at(tmp_path).sweep((), ()))
    assert list(own.parent.parent.iterdir()) == [own.parent]
    assert own.read_text() == "half"


async def test_what_another_process_removes_meanwhile_does_not_end_a_sweep(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    for name in ("moved", "lost"):
        folder.content(name).write_text("")
        os.utime(folder.content(name), (time.time() - OLD,) * 2)

    class Known(set[str]):
        """Names of files; another process moves a file while they are compared with it."""

        def __contains__(self, name: object) -> bool:
            folder.content("moved").unlink(missing_ok=True)
            return super().__contains__(name)

    await folder.sweep(Known(), set())
    assert not list(folder.content("lost").parent.iterdir())


async def made(path: Path) -> Batch:
    """An unfinished batch in a folder."""
    store = LocalStore(path, BatchSettings())
    now = int(time.time())
    await store.add_file(StoredFile("f", "a", "in", Purpose.BATCH, 1, now, now + 100))
    return await store.create(Batch("", "a", "/v1/generate", "f", "24h", now, now + 100, 100))


async def test_one_holder_at_a_time(tmp_path: Path) -> None:
    batch = await made(tmp_path)
    store = LocalStore(tmp_path, BatchSettings())
    lease = await store.take(batch.id)
    assert lease is not None
    assert await store.take(batch.id) is None
    await lease.release()
    assert await store.take(batch.id) is not None
    await store.close()


async def test_the_lock_files_of_ended_batches_are_removed_once_they_are_old(
    tmp_path: Path,
) -> None:
    batch = await made(tmp_path)
    store = LocalStore(tmp_path, BatchSettings())
    for name in ("batch_old", "batch_new", batch.id):
        lease = tmp_path / "leases" / name
        lease.touch()
        if name != "batch_new":
            os.utime(lease, (time.time() - OLD,) * 2)
    await store.expire(1000)
    assert {path.name for path in (tmp_path / "leases").iterdir()} == {"batch_new", batch.id}
    await store.close()


def test_a_killed_holder_has_it_no_more(tmp_path: Path) -> None:
    hold = (
        "import asyncio, sys, time; from pathlib import Path\n"
        "from service.plugins.batches.local_store import LocalStore\n"
        "from service.plugins.batches.settings import BatchSettings\n"
        "store = LocalStore(Path(sys.argv[1]), BatchSettings())\n"
        "print(asyncio.run(store.take(sys.argv[2])) is not None, flush=True)\n"
        "time.sleep(600)"
    )
    batch = asyncio.run(made(tmp_path))

    def is_free() -> bool:
        store = LocalStore(tmp_path, BatchSettings())
        return asyncio.run(store.take(batch.id)) is not None

    command = [sys.executable, "-c", hold, str(tmp_path), batch.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not is_free()
        holder.send_signal(signal.SIGKILL)
        holder.wait(PATIENCE_S)
    assert is_free()
