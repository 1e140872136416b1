"""Batches whose files are in S3, which fails at times: no line is lost or answered twice."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from loadtests.processes import eventually
from service.plugins.batches.local_store import DATABASE
from tests.live_service import LiveService
from tests.plugins.batches.inputs import GENERATE, many, read
from tests.plugins.batches.test_api import client_of, content, ended, service, started
from tests.sources.servers import S3

LINES = 12


def stored(path: Path, **sections: float) -> LiveService:
    return service(path, batches={"files": "s3://models/batches"}, **sections)


def left(path: Path) -> list[str]:
    """Files below the folder beside the database, leases and pointers."""
    folders = (path / "batches" / name for name in ("files", "inputs"))
    return [each.name for folder in folders for each in folder.iterdir()]


def answered(live: LiveService) -> float:
    return live.value("inference_requests_total", route=GENERATE, outcome="ok")


async def test_input_and_results_are_in_the_store_until_they_are_deleted(
    s3: S3, tmp_path: Path
) -> None:
    sent = many(LINES)
    with stored(tmp_path) as live:
        async with client_of(live) as client:
            batch = await ended(client, await started(client, sent))
            assert batch.status == "completed"
            assert batch.output_file_id is not None
            lines = await content(client, batch.output_file_id)
            assert (await client.files.content(batch.input_file_id)).content == sent
            held = s3.holds()
            assert held[f"batches/{batch.input_file_id}"] == sent
            assert set(held) == {
                f"batches/{name}" for name in (batch.input_file_id, batch.output_file_id)
            }
            assert not left(tmp_path)
            for name in (batch.input_file_id, batch.output_file_id):
                assert (await client.files.delete(name)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.files.content(batch.input_file_id)
    assert not s3.holds()
    assert len({line["custom_id"] for line in lines}) == len(lines) == LINES


@pytest.mark.parametrize("name", ["in.jsonl", "über zwei.jsonl"])
async def test_a_download_has_the_headers_of_one_from_the_folder(
    s3: S3, tmp_path: Path, name: str
) -> None:
    found = []
    for live in (service(tmp_path / "here"), stored(tmp_path / "there")):
        with live:
            async with client_of(live) as client:
                file = await client.files.create(file=(name, b"content"), purpose="batch")
                answer = (await client.files.content(file.id)).response
        names = ("content-length", "content-disposition", "content-type")
        found.append([answer.headers[each] for each in names])
    assert found[0] == found[1]


async def test_a_store_that_is_down_takes_and_gives_no_file(s3: S3, tmp_path: Path) -> None:
    with stored(tmp_path) as live:
        async with client_of(live) as client:
            kept = await client.files.create(file=("in", many(1)), purpose="batch")
            s3.down()
            try:
                for asked in (
                    client.files.create(file=("in", many(1)), purpose="batch"),
                    client.files.content(kept.id),
                ):
                    with pytest.raises(openai.InternalServerError) as raised:
                        await asked
                    assert raised.value.status_code == 503
                    assert raised.value.code == "store_unavailable"
                    assert raised.value.response.headers["retry-after"] == "30"
                assert [file async for file in client.files.list()] == [kept]
                await eventually(lambda: not left(tmp_path))
            finally:
                s3.up()
            assert (await client.files.content(kept.id)).content == many(1)


async def test_a_file_whose_time_is_over_leaves_the_store(s3: S3, tmp_path: Path) -> None:
    with stored(tmp_path) as live:
        async with client_of(live) as client:
            files = [await client.files.create(file=("in", b"x"), purpose="batch") for _ in "ab"]
    with closing(sqlite3.connect(tmp_path / "batches" / DATABASE)) as connection:
        connection.execute("UPDATE files SET expires_at = 1 WHERE id = ?", (files[0].id,))
        connection.commit()
    with stored(tmp_path):
        await eventually(lambda: s3.names() == [f"batches/{files[1].id}"])


async def test_a_batch_waits_for_its_store_and_asks_no_line_again(s3: S3, tmp_path: Path) -> None:
    with stored(tmp_path) as live:
        live.engine.frozen = True
        async with client_of(live) as client:
            batch = await started(client, many(LINES))
            await eventually(lambda: live.engine.running > 0)
            s3.down()
            live.engine.frozen = False
            try:
                await eventually(lambda: answered(live) == LINES)
                await asyncio.sleep(2)  # in which its end is tried
                assert (await client.batches.retrieve(batch.id)).status == "finalizing"
            finally:
                s3.up()
            batch = await ended(client, batch)
            lines = await content(client, batch.output_file_id)
            assert answered(live) == LINES
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert [line["custom_id"] for line in lines] == [
        each["custom_id"] for each in read(many(LINES))
    ]
    assert not left(tmp_path)


async def test_a_batch_begins_when_its_input_can_be_read_and_goes_on_after_a_restart(
    s3: S3, tmp_path: Path
) -> None:
    with stored(tmp_path, token_seconds=0.02) as live:
        async with client_of(live) as client:
            file = await client.files.create(file=("in", many(LINES)), purpose="batch")
            s3.down()
            try:
                asked: dict[str, Any] = {"endpoint": GENERATE, "completion_window": "24h"}
                batch = await client.batches.create(input_file_id=file.id, **asked)
                await asyncio.sleep(1)  # in which its beginning is tried
                assert (await client.batches.retrieve(batch.id)).status == "validating"
            finally:
                s3.up()
            await eventually(lambda: answered(live) >= 2)
    with stored(tmp_path) as live:
        async with client_of(live) as client:
            batch = await ended(client, batch)
            assert answered(live) <= LINES - 2
            lines = await content(client, batch.output_file_id)
    assert len({line["custom_id"] for line in lines}) == len(lines) == LINES
