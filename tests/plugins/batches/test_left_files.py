"""Files whose client leaves, or that are deleted meanwhile: kept, sent and removed whole."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from loadtests.processes import PATIENCE_S, eventually
from service.plugins.batches.disk import put_in_place
from service.plugins.batches.local_store import DATABASE
from service.plugins.batches.routes import FileContent
from tests.live_service import LiveService
from tests.plugins.batches.test_api import FORM_BEGIN, service

FORM_END = b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
UPLOAD = (
    b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: %d\r\n\r\n"
)


@contextmanager
def busy(path: Path) -> Iterator[None]:
    """Hold the database as another process does in a transaction."""
    connection = sqlite3.connect(path / "batches" / DATABASE, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("COMMIT")
        connection.close()


def on_disk(path: Path) -> list[str]:
    """The ids of files that have a content."""
    return sorted(each.name for each in (path / "batches/files").glob("file-*"))


def is_coming(path: Path) -> bool:
    """True while an upload is being written."""
    return any((path / "batches").rglob("upload-*"))


async def asked(live: LiveService, request: bytes) -> asyncio.StreamWriter:
    """The connection of a client that has sent this."""
    _, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(request)
    await writer.drain()
    return writer


async def listed(live: LiveService) -> list[str]:
    async with live.client() as client:
        return sorted(each["id"] for each in (await client.get("/v1/files")).json()["data"])


async def left(live: LiveService, writer: asyncio.StreamWriter) -> None:
    """Close the connection, and give the service time to notice."""
    writer.close()
    await asyncio.sleep(0.2)
    assert not live.outcomes()


async def test_a_file_is_kept_whole_although_its_client_leaves_before_its_record(
    tmp_path: Path,
) -> None:
    with service(tmp_path) as live:
        begun = UPLOAD % len(FORM_BEGIN + FORM_END) + FORM_BEGIN
        writer = await asked(live, begun)
        await eventually(lambda: is_coming(tmp_path))
        with busy(tmp_path):
            writer.write(FORM_END)
            await eventually(lambda: on_disk(tmp_path))
            await left(live, writer)
        await eventually(lambda: sum(live.outcomes().values()) == 1)
        assert await listed(live) == on_disk(tmp_path) != []


async def test_a_file_is_kept_whole_although_its_client_leaves_before_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, synced = threading.Event(), threading.Event()

    def slow(upload: Path, path: Path) -> None:
        begun.set()
        assert synced.wait(PATIENCE_S)
        put_in_place(upload, path)

    monkeypatch.setattr("service.plugins.batches.folder.put_in_place", slow)
    with service(tmp_path) as live:
        writer = await asked(live, UPLOAD % len(FORM_BEGIN + FORM_END) + FORM_BEGIN + FORM_END)
        await eventually(begun.is_set)
        await left(live, writer)
        synced.set()
        await eventually(lambda: sum(live.outcomes().values()) == 1)
        assert await listed(live) == on_disk(tmp_path) != []


async def test_a_file_is_sent_whole_although_it_is_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deleted(FileContent):
        """A content that is deleted as its answer begins."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            os.unlink(self.path)
            await super().__call__(scope, receive, send)

    monkeypatch.setattr("service.plugins.batches.routes.FileContent", Deleted)
    with service(tmp_path) as live:
        async with live.client() as client:
            form = {"files": {"file": ("in", b"content")}, "data": {"purpose": "batch"}}
            file = (await client.post("/v1/files", **form)).json()  # type: ignore[arg-type]
            path = f"/v1/files/{file['id']}/content"
            assert (await client.get(path)).content == b"content"
            assert (await client.get(path)).status_code == 404


async def test_a_file_is_deleted_whole_although_its_client_leaves(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        async with live.client() as client:
            form = {"files": {"file": ("in", b"x")}, "data": {"purpose": "batch"}}
            file = (await client.post("/v1/files", **form)).json()  # type: ignore[arg-type]
            await eventually(lambda: sum(live.outcomes().values()) == 1)
        with busy(tmp_path):
            request = f"DELETE /v1/files/{file['id']} HTTP/1.1\r\nHost: a\r\n\r\n"
            writer = await asked(live, request.encode())
            await asyncio.sleep(0.2)
            writer.close()
            await asyncio.sleep(0.2)
        await eventually(lambda: sum(live.outcomes().values()) == 2)
        assert await listed(live) == on_disk(tmp_path) == []
