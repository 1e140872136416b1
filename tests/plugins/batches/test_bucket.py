"""Files of batches in S3, Google Cloud Storage and Azure, by emulators of their protocols."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry
from gcp_storage_emulator.server import create_server

from service.errors import ConfigurationError, Unavailable
from service.plugins.batches.disk import new_place
from service.plugins.batches.folder import Bucket, Folder
from service.plugins.batches.local_store import DATABASE, LocalStore
from service.plugins.batches.settings import BatchSettings
from tests.sources.servers import S3
from tools.azurite import azurite, is_fetched

FILE = "file-1"
CONTENT = bytes(range(256)) * (80 << 10)
"""Twenty MiB: two whole blocks and a part of one."""


WITH_AZURITE = pytest.mark.skipif(not is_fetched(), reason="`make test-azure` fetches Azurite")


@pytest.fixture(params=["s3", "gs", pytest.param("az", marks=WITH_AZURITE)])
def bucket(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bucket]:
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield Bucket("s3://models/batches")
        return
    if request.param == "az":
        with azurite(tmp_path_factory.mktemp("azurite") / "log") as connection:
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
            fsspec.filesystem("az", skip_instance_cache=True).mkdir("models")
            yield Bucket("az://models/batches")
        return
    with create_server("127.0.0.1", 0, in_memory=True, default_bucket="models") as server:
        host, port = server._api._httpd.server_address
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        yield Bucket("gs://models/batches")


def folder_at(path: Path, bucket: Bucket | None = None) -> Folder:
    return Folder(path, LocalStore(path, BatchSettings()), bucket)


def files_below(path: Path) -> set[str]:
    """Names of files, without the database's."""
    names = {each.name for each in path.rglob("*") if each.is_file()}
    return {name for name in names if not name.startswith(DATABASE)}


def make_old(path: Path) -> None:
    """Give all below a folder an age of hours."""
    for each in path.rglob("*"):
        os.utime(each, (time.time() - 3 * 3600,) * 2)


async def read(bucket: Bucket, size: int) -> bytes:
    return b"".join([block async for block in bucket.blocks(FILE, size)])


# gcsfs and adlfs send parts as raw bytes, on loops of their own.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("content", [CONTENT, CONTENT[: 16 << 20], b"one line\n"])
async def test_a_file_goes_there_and_comes_back(
    bucket: Bucket, tmp_path: Path, content: bytes
) -> None:
    sent, fetched = tmp_path / "sent", tmp_path / "fetched"
    sent.write_bytes(content)
    await bucket.put(sent, FILE)
    assert await read(bucket, len(content)) == content
    await bucket.fetch(FILE, fetched)
    assert fetched.read_bytes() == content
    await bucket.remove(FILE)
    await bucket.remove(FILE)
    with pytest.raises(Unavailable):
        await bucket.fetch(FILE, tmp_path / "none")
    assert files_below(tmp_path) == {"sent", "fetched"}


async def test_a_store_that_is_down_is_told_and_logged(
    s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket, path = Bucket("s3://models/batches"), tmp_path / "sent"
    path.write_bytes(CONTENT)
    await bucket.put(path, FILE)
    s3.down()
    try:
        for asked in (
            bucket.put(path, FILE),
            bucket.fetch(FILE, tmp_path / "fetched"),
            read(bucket, len(CONTENT)),
            bucket.remove(FILE),
        ):
            with pytest.raises(Unavailable, match="store of files") as raised:
                await asked
            assert raised.value.code == "store_unavailable"
            assert raised.value.retry_after == 30
    finally:
        s3.up()
    assert caplog.text.count(f"s3://models/batches: {FILE}: ") == 4
    assert files_below(tmp_path) == {"sent"}
    assert await read(bucket, len(CONTENT)) == CONTENT


async def test_a_file_that_became_shorter_is_an_error(s3: S3, tmp_path: Path) -> None:
    bucket = Bucket("s3://models/batches")
    s3.client.put_object(Bucket="models", Key=f"batches/{FILE}", Body=b"short")
    with pytest.raises(Unavailable):
        await read(bucket, 10)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://host/files", "expected one of s3://, gs://, az://, got https://host/files"),
        ("/var/files", "expected one of s3://"),
        ("ftp://host/files", "found ftp://"),
        ("s3://key:secret@bucket/files", "credentials come from the environment"),
        ("s3:///files", "expected a bucket"),
        ("az://container/files", "adlfs"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.delitem(_registry, "az", raising=False)  # another test may have used it
    with pytest.raises(ConfigurationError, match=says) as raised:
        Bucket(address)
    assert "secret" not in str(raised.value)


async def kept(folder: Folder, content: bytes = b"x", file_id: str = FILE) -> Path:
    upload = folder.new_upload()
    upload.write_bytes(content)
    await folder.keep(upload, file_id)
    return upload


async def test_content_stays_where_it_is_when_the_setting_changes(s3: S3, tmp_path: Path) -> None:
    await kept(folder_at(tmp_path), b"here", "file-here")
    await kept(folder_at(tmp_path, Bucket("s3://models/a")), b"a", "file-a")
    folder = folder_at(tmp_path, Bucket("s3://models/b"))
    await kept(folder, b"b", "file-b")
    assert s3.holds() == {"a/file-a": b"a", "b/file-b": b"b"}
    for name, content in (("file-here", b"here"), ("file-a", b"a"), ("file-b", b"b")):
        batch = f"batch_{name}"
        assert (await folder.input_of(batch, name)).read_bytes() == content
        await folder.forget_input(batch)
    await folder.remove("file-here", "file-a", "file-b")
    assert not s3.holds()
    assert not files_below(tmp_path)


async def test_an_upload_that_the_store_refused_stays_and_is_swept_there(
    s3: S3, tmp_path: Path
) -> None:
    folder = folder_at(tmp_path, Bucket("s3://models/batches"))
    s3.down()
    try:
        with pytest.raises(Unavailable):
            await kept(folder)
        (upload,) = (tmp_path / "uploads").glob("*/*")
        assert upload.read_bytes() == b"x"
    finally:
        s3.up()
    await sweep_hours_later(tmp_path)


@pytest.mark.parametrize("arrived", [False, True])
async def test_a_file_whose_process_was_killed_before_its_record_is_swept(
    s3: S3, tmp_path: Path, arrived: bool
) -> None:
    folder = folder_at(tmp_path, Bucket("s3://models/batches"))
    await kept(folder)
    if not arrived:
        s3.client.delete_object(Bucket="models", Key=f"batches/{FILE}")
    await folder.sweep(set(), set())
    assert bool(s3.holds()) == arrived
    await sweep_hours_later(tmp_path)
    assert not s3.holds()


async def test_a_deleted_file_is_removed_as_soon_as_its_store_answers(
    s3: S3, tmp_path: Path
) -> None:
    folder = folder_at(tmp_path, Bucket("s3://models/batches"))
    await kept(folder)
    await kept(folder, file_id="file-kept")
    s3.down()
    try:
        await folder.remove(FILE)
    finally:
        s3.up()
    assert len(s3.holds()) == 2
    await sweep_hours_later(tmp_path, "file-kept")
    assert list(s3.holds()) == ["batches/file-kept"]


async def test_a_bucket_that_cannot_be_used_any_more_keeps_no_file_of_another(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.delitem(_registry, "az", raising=False)
    folder = folder_at(tmp_path, Bucket("s3://models/batches"))
    await kept(folder)
    old = tmp_path / "pointers/file-old"
    old.write_text("az://closed/batches", encoding="utf-8")
    await folder.remove(old.name, FILE)
    assert not s3.holds()
    assert files_below(tmp_path) == {old.name}


class Closed(Bucket):
    """A bucket of an account that was closed."""

    asked = 0

    async def remove(self, name: str) -> None:
        self.asked += 1
        raise Unavailable("The store of files cannot be read or written now.")


async def test_a_bucket_that_fails_is_asked_once_for_all_files(s3: S3, tmp_path: Path) -> None:
    closed = Closed("s3://models/closed")
    await kept(folder_at(tmp_path, closed), file_id="file-a")
    await kept(folder_at(tmp_path, closed), file_id="file-b")
    await kept(folder_at(tmp_path, Bucket("s3://models/batches")))
    await folder_at(tmp_path, closed).remove("file-a", FILE, "file-b")
    assert sorted(s3.holds()) == ["closed/file-a", "closed/file-b"]
    assert closed.asked == 1


async def test_a_pointer_of_a_process_that_was_killed_ends_no_sweep(s3: S3, tmp_path: Path) -> None:
    await kept(folder_at(tmp_path, Bucket("s3://models/batches")))
    new_place(tmp_path / "pointers").touch()
    await sweep_hours_later(tmp_path)
    assert not s3.holds()


async def sweep_hours_later(path: Path, *files: str) -> None:
    """Sweep as a process that starts anew; nothing is left but what these files need."""
    make_old(path)
    await folder_at(path, Bucket("s3://models/batches")).sweep(set(files), set())
    assert files_below(path) == set(files)
