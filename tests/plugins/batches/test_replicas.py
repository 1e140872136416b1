"""Batches of two replicas that share a Redis and S3: each shows and changes the same ones."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S, eventually
from service.cli.main import app
from service.plugins.batches.settings import BatchSettings
from service.settings.tree import TenantSettings
from tests.live_service import LiveService
from tests.plugins.batches.inputs import GENERATE, many, read
from tests.plugins.batches.test_api import client_of, content, ended, started
from tests.sources.servers import S3
from tests.tenants.redis_server import RedisServer
from tools.keys import entry, key_of, write_keys

LINES = 12


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def replicas(s3: S3, redis: RedisServer, tmp_path: Path) -> Iterator[list[LiveService]]:
    keys = TenantSettings(keys=write_keys(tmp_path / "keys.yaml", entry("one"), entry("two")))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                LiveService(
                    token_seconds=0.005,
                    tenants=keys,
                    batches=BatchSettings(
                        path=tmp_path / name, files="s3://models/batches", storage=redis.url
                    ),
                )
            )
            for name in ("a", "b")
        ]


class Process:
    """A replica in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    @cached_property
    def url(self) -> str:
        """The address, once the replica serves."""
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        assert url, self.log.read_text()
        return url

    def client(self) -> openai.AsyncOpenAI:
        """OpenAI's client of it."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@contextmanager
def replica_process(folder: Path, storage: str) -> Iterator[Process]:
    """A replica that runs until the block ends."""
    log = folder.with_suffix(".log")
    command = [sys.executable, "-m", "tests.plugins.batches.replica", str(folder), storage]
    pipe = subprocess.PIPE
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            yield Process(process, log)
        finally:
            process.kill()


def answered(replicas: list[LiveService]) -> float:
    return sum(
        live.value("inference_requests_total", route=GENERATE, outcome="ok") for live in replicas
    )


async def test_each_replica_has_the_batches_of_both(
    replicas: list[LiveService], s3: S3, tmp_path: Path
) -> None:
    first, second = replicas
    key = key_of("one")
    async with client_of(first, key) as one, client_of(second, key) as other:
        batch = await started(one, many(LINES), metadata={"job": "7"})
        assert [each.id async for each in other.batches.list()] == [batch.id]
        batch = await ended(other, batch)
        assert (batch.status, batch.metadata) == ("completed", {"job": "7"})
        with pytest.raises(openai.BadRequestError, match="has ended already"):
            await other.batches.cancel(batch.id)
        for client in (one, other):
            assert await client.batches.retrieve(batch.id) == batch
            lines = await content(client, batch.output_file_id)
            assert [each["custom_id"] for each in lines] == [
                each["custom_id"] for each in read(many(LINES))
            ]
        assert answered(replicas) == LINES
        async with client_of(second, key_of("two")) as stranger:
            assert [each async for each in stranger.batches.list()] == []
            for hidden in (
                stranger.batches.retrieve(batch.id),
                stranger.batches.cancel(batch.id),
                stranger.files.content(batch.input_file_id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await hidden
        for name in (batch.input_file_id, batch.output_file_id):
            assert name is not None
            assert (await other.files.delete(name)).deleted
        assert [each async for each in one.files.list()] == []
    assert not s3.holds()
    folders = (tmp_path / name / kind for name in "ab" for kind in ("files", "inputs"))
    assert [each for folder in folders for each in folder.iterdir()] == []


async def test_an_operator_cancels_what_any_replica_runs(
    replicas: list[LiveService], redis: RedisServer
) -> None:
    key = key_of("one")
    async with client_of(replicas[0], key) as one, client_of(replicas[1], key) as other:
        for each in replicas:
            each.engine.frozen, each.engine.spared = True, 40  # tokens, of a few lines
        batch = await started(one, many(500))
        await eventually(lambda: answered(replicas) >= 2)
        environment = {"LLM_SERVICE_BATCHES__STORAGE": redis.url}
        shown, cancelled = [
            await asyncio.to_thread(CliRunner().invoke, app, ["batches", *words], env=environment)
            for words in (("list", "--json"), ("cancel", batch.id))
        ]
        (listed,) = json.loads(shown.stdout)
        assert (listed["id"], listed["tenant"]) == (batch.id, "one")
        assert cancelled.stdout == f"{batch.id}: cancelling\n"
        batch = await ended(other, batch)
        assert batch.status == "cancelled"
        output = await content(one, batch.output_file_id)
        errors = await content(one, batch.error_file_id)
    assert len({line["custom_id"] for line in [*output, *errors]}) == 500
    assert len(output) + len(errors) == 500


async def test_without_the_store_batches_wait_and_generations_go_on(
    replicas: list[LiveService], redis: RedisServer
) -> None:
    live, key = replicas[0], key_of("one")
    async with client_of(live, key) as client:
        batch = await started(client, many(100))
        await eventually(lambda: answered(replicas) >= 2)
        redis.freeze()
        try:
            asked: dict[str, Any] = {"endpoint": GENERATE, "completion_window": "24h"}
            answers = await asyncio.gather(
                client.batches.list(),
                client.batches.create(input_file_id=batch.input_file_id, **asked),
                client.files.create(file=("in", many(1)), purpose="batch"),
                client.files.content(batch.input_file_id),
                return_exceptions=True,
            )
            for error in answers:
                assert isinstance(error, openai.InternalServerError)
                assert (error.status_code, error.code) == (503, "store_unavailable")
                assert error.response.headers["retry-after"] == "5"
            body = {"model": "fake", "prompt": "Tell me", "max_tokens": 4}
            async with live.client() as plain:
                headers = {"authorization": f"Bearer {key}"}
                assert (await plain.post(GENERATE, json=body, headers=headers)).status_code == 200
        finally:
            redis.thaw()
        async with asyncio.timeout(PATIENCE_S):
            batch = await ended(client, batch)
        lines = await content(client, batch.output_file_id)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert [line["custom_id"] for line in lines] == [each["custom_id"] for each in read(many(100))]


@pytest.mark.parametrize(
    "fault", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
async def test_another_replica_goes_on_for_one_that_dies_or_stops(
    fault: signal.Signals, s3: S3, redis: RedisServer, tmp_path: Path
) -> None:
    with (
        replica_process(tmp_path / "a", redis.url) as first,
        replica_process(tmp_path / "b", redis.url) as second,
    ):
        async with second.client() as client:
            second.process.send_signal(signal.SIGSTOP)  # so that the first has the lease
            async with first.client() as one:
                batch = await started(one, many(60, max_tokens=10))
                await completed(one, batch, 3)
            first.process.send_signal(fault)
            second.process.send_signal(signal.SIGCONT)
            before = (await client.batches.retrieve(batch.id)).request_counts
            assert before is not None
            await completed(client, batch, before.completed + 3)
            if fault == signal.SIGSTOP:
                first.process.send_signal(signal.SIGCONT)
                await eventually(lambda: "its lease ended here" in first.log.read_text())
            batch = await ended(client, batch)
            lines = await content(client, batch.output_file_id)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 60, "completed": 60, "failed": 0}
    assert [line["custom_id"] for line in lines] == [each["custom_id"] for each in read(many(60))]


async def completed(client: openai.AsyncOpenAI, batch: Batch, count: int) -> None:
    """Wait until so many lines of the batch are answered."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            counts = (await client.batches.retrieve(batch.id)).request_counts
            if counts is not None and counts.completed >= count:
                return
            await asyncio.sleep(0.05)
