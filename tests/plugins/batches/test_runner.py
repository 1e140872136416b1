"""The runner: every line is answered once, whoever runs its batch and however often it stops."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import PATIENCE_S, eventually
from service.errors import Unavailable
from service.plugins.batches import run, runner
from service.plugins.batches.folder import Folder
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.batches.run import RunContext
from service.plugins.batches.runner import Runner
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import Batch, Purpose, Status, StoredFile, new_file_id
from service.runtime.parts import Reply
from service.tenants.tenant import Tenant, Tier
from tests.plugins.batches.inputs import GENERATE, jsonl, line, many, read
from tests.plugins.batches.places import Opened, opened

WINDOW = 1000


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for batches and leases twenty times a second in place of once."""
    for each in (run, runner):
        monkeypatch.setattr(each, "LOOK_SECONDS", 0.05)


class Observed:
    """What the series of batches show."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = BatchMetrics(self._registry)

    def value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"inference_{name}", labels) or 0

    @property
    def lines(self) -> dict[str, float]:
        """Lines by their outcome."""
        outcomes = ("completed", "failed", Status.EXPIRED, Status.CANCELLED)
        return {name: self.value("batch_lines_total", outcome=name) for name in outcomes}

    @property
    def ended(self) -> dict[Status, float]:
        """Batches by the status with which they ended."""
        counts = {status: self.value("batches_ended_total", status=status) for status in Status}
        return {status: count for status, count in counts.items() if count}

    @property
    def oldest(self) -> float:
        return self.value("batch_oldest_unfinished_seconds")

    @property
    def idle(self) -> float:
        return self.value("batch_idle_seconds")


class Site:
    """A place of batches, and what answers their lines: `answer` may be replaced."""

    def __init__(self, path: Path, storage: str | None) -> None:
        self.now = 1_800_000_000
        self._place = (path, storage)
        self.max_lines = 1000
        self.tenant_bytes = 1 << 30
        self.kept = self._opened()
        self.folder, self.store = self.kept.folder, self.kept.store
        self.observed = Observed()
        self.asked: list[str] = []
        self.tenants = {name: Tenant(name) for name in ("a", "b")}
        self.room = 3
        self.at_once = self.most_at_once = 0

    def _opened(self) -> Opened:
        settings = BatchSettings(max_lines=self.max_lines, tenant_bytes=self.tenant_bytes)
        return opened(*self._place, settings, lambda: self.now)

    async def answer(self, body: Any) -> Reply:
        await asyncio.sleep(0)
        return Reply(200, json.dumps({"text": body["prompt"]}).encode())

    async def call(
        self, tenant: Tenant, path: str, body: bytes, *, request_id: str, timeout_s: float
    ) -> Reply:
        assert path == GENERATE
        assert 60 <= timeout_s <= WINDOW + 60
        self.asked.append(request_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(json.loads(body))
        finally:
            self.at_once -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A runner as one process has it; several may run."""
        kept = self._opened()
        context = RunContext(
            settings=BatchSettings(max_lines=self.max_lines, tenant_bytes=self.tenant_bytes),
            store=kept.store,
            folder=kept.folder,
            metrics=self.observed.metrics,
            call=self.call,
            tenant_of=self.tenants.get,
            free_slots=lambda: self.room,
            max_line_bytes=10_000,
            clock=lambda: self.now,
        )
        runner = Runner(context)
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await kept.store.close()

    async def batch(self, content: bytes, tenant: str = "a") -> Batch:
        file_id = new_file_id()
        self.folder.content(file_id).write_bytes(content)
        size, later = len(content), self.now + 86_400
        file = StoredFile(file_id, tenant, "in", Purpose.BATCH, size, self.now, later)
        await self.store.add_file(file)
        return await self.store.create(
            Batch("", tenant, GENERATE, file_id, "24h", self.now, self.now + WINDOW, 3600)
        )

    async def has(self, batch: Batch, *statuses: Status) -> Batch:
        """The batch, once it has one of these statuses."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                now = await self.store.batch(batch.tenant, batch.id)
                if now.status in statuses:
                    return now
                await asyncio.sleep(0.005)

    def results(self, batch: Batch) -> tuple[list[Any], list[Any]]:
        """The lines of the output file, and of the error file."""
        ids = (batch.output_file_id, batch.error_file_id)
        output, errors = (
            [] if name is None else read(self.folder.content(name).read_bytes()) for name in ids
        )
        return output, errors


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plugins.batches.run.LEAST_REST_SECONDS", 0.1)
    monkeypatch.setattr("service.plugins.batches.run.LONGEST_REST_SECONDS", 0.2)


@pytest.fixture
async def site(tmp_path: Path, storage: str | None) -> AsyncIterator[Site]:
    site = Site(tmp_path, storage)
    yield site
    await site.kept.store.close()


def names(lines: list[Any]) -> list[str]:
    return [each["custom_id"] for each in lines]


async def test_a_batch_is_answered_in_its_order_within_the_room(site: Site) -> None:
    chance = random.Random(1)

    async def answer(body: Any) -> Reply:
        await asyncio.sleep(chance.random() / 100)
        status = 400 if body["prompt"] == "bad" else 200
        return Reply(status, json.dumps(body).encode())

    site.answer = answer  # type: ignore[method-assign]
    lines = [line(f"l{n}", prompt="bad" if n % 4 == 0 else "good") for n in range(100)]
    async with site.running():
        batch = await site.has(await site.batch(jsonl(*lines)), Status.COMPLETED)
        # The runner counts an end after it is stored: not if it is stopped between the two.
        await eventually(lambda: site.observed.ended == {Status.COMPLETED: 1})
    output, errors = site.results(batch)
    assert names(errors) == [f"l{n}" for n in range(0, 100, 4)]
    assert names(output) == [f"l{n}" for n in range(100) if n % 4]
    assert (batch.total, batch.completed, batch.failed) == (100, 75, 25)
    assert {each["response"]["status_code"] for each in errors} == {400}
    assert output[0]["response"]["body"]["service_tier"] == "flex"
    assert site.most_at_once == site.room + 2
    assert site.observed.lines == {"completed": 75, "failed": 25, "expired": 0, "cancelled": 0}
    assert [batch.times[s] for s in (Status.IN_PROGRESS, Status.FINALIZING)] == [site.now] * 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stream", True, "stream: the answers of a batch come whole"),
        ("service_tier", "default", "service_tier: the lines of a batch are flex, got 'default'"),
        ("service_tier", 5, "service_tier: the lines of a batch are flex, got 5"),
    ],
)
async def test_a_line_that_is_no_background_work_has_an_error(
    site: Site, field: str, value: Any, message: str
) -> None:
    content = jsonl(line("x", **{field: value}), line("y", stream=False, service_tier="auto"))
    async with site.running():
        batch = await site.has(await site.batch(content), Status.COMPLETED)
    output, (error,) = site.results(batch)
    assert names(output) == ["y"]
    assert error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["message"].startswith(message)
    assert error["response"]["body"]["error"]["param"] == field
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (b"", [("empty_file", None)]),
        (b"\n\n", [("empty_file", None)]),
        (b"\x89PNG\r\n\x1a\n", [("invalid_json_line", 1), ("invalid_json_line", 2)]),
        (jsonl(line("a"), "{", "[]"), [("invalid_json_line", 2), ("invalid_json_line", 3)]),
        (jsonl(line("a"), line("b"), line("a")), [("duplicate_custom_id", 3)]),
        (jsonl(line("a"), line("b", "/v1/classify")), [("mismatched_url", 2)]),
        (jsonl(line("a", prompt="x" * 10_000)), [("line_too_long", 1)]),
        (many(101), [("too_many_lines", None)]),
        (b"x\n" * 150, [("invalid_json_line", n) for n in range(1, 101)]),
    ],
)  # fmt: skip
async def test_a_file_that_holds_no_requests_fails_with_its_lines(
    site: Site, content: bytes, problems: list[tuple[str, int | None]]
) -> None:
    site.max_lines = 100
    async with site.running():
        batch = await site.has(await site.batch(content), Status.FAILED)
        await eventually(lambda: site.observed.ended == {Status.FAILED: 1})
    assert [(problem.code, problem.line) for problem in batch.problems] == problems
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert not site.asked


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_stops_it_every_line_is_answered_once(
    site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that stops while it takes a shared lease keeps it for so long.
    monkeypatch.setattr("service.plugins.batches.shared_store.LEASE_SECONDS", 0.1)
    chance = random.Random(seed)

    async def answer(body: Any) -> Reply:
        await asyncio.sleep(chance.random() / 200)
        return Reply(200, json.dumps(body).encode())

    site.answer = answer  # type: ignore[method-assign]
    batch, stops = await site.batch(many(100)), 0
    while (now := await site.store.batch("a", batch.id)).status is not Status.COMPLETED:
        async with site.running():
            # Longer from stop to stop: on a slow machine it would not come to a line.
            await asyncio.sleep(chance.random() / 20 * (1 + stops / 20))
        stops += 1
    output, errors = site.results(now)
    assert names(output) == [f"line-{n}" for n in range(100)]
    assert not errors
    assert now.completed == 100
    assert stops > 1


async def test_two_processes_share_a_place_and_not_a_batch(site: Site) -> None:
    site.room = 1
    batches = [await site.batch(many(30)) for _ in range(2)]
    async with site.running(), site.running():
        ended = [await site.has(batch, Status.COMPLETED) for batch in batches]
    for batch in ended:
        assert names(site.results(batch)[0]) == [f"line-{n}" for n in range(30)]
    assert Counter(site.asked).most_common(1)[0][1] == 1
    assert len(site.asked) == 60


async def test_tenants_run_beside_each_other_and_batches_of_one_in_turn(site: Site) -> None:
    hold = asyncio.Event()

    async def answer(body: Any) -> Reply:
        await hold.wait()
        return Reply(200, b"{}")

    site.answer = answer  # type: ignore[method-assign]
    first, second = await site.batch(many(1)), await site.batch(many(1))
    other = await site.batch(many(1), "b")
    async with site.running():
        await eventually(lambda: len(site.asked) == 2)
        assert (await site.store.batch("a", second.id)).status is Status.VALIDATING
        hold.set()
        for batch in (first, second, other):
            await site.has(batch, Status.COMPLETED)
    assert site.observed.oldest == 0


@pytest.mark.parametrize("status", [429, 503, 504])
async def test_a_line_refused_for_now_is_asked_again(site: Site, status: int) -> None:
    async def answer(body: Any) -> Reply:
        if len(site.asked) == 1:
            return Reply(status, b'{"error": {}}', retry_after=0.01)
        return Reply(200, b"{}")

    site.answer = answer  # type: ignore[method-assign]
    async with site.running():
        batch = await site.has(await site.batch(many(1)), Status.COMPLETED)
    assert len(site.asked) == 2
    assert (batch.completed, batch.failed) == (1, 0)


@pytest.mark.parametrize(("status", "wait"), [(503, None), (504, None), (500, None), (400, 1.0)])
async def test_what_no_other_try_helps_is_the_answer(
    site: Site, status: int, wait: float | None
) -> None:
    async def answer(body: Any) -> Reply:
        return Reply(status, b'{"error": {}}', wait)

    site.answer = answer  # type: ignore[method-assign]
    async with site.running():
        batch = await site.has(await site.batch(many(1)), Status.COMPLETED)
    assert len(site.asked) == 1
    assert site.results(batch)[1][0]["response"]["status_code"] == status


async def some_answered(site: Site, batch: Batch, count: int) -> None:
    """Wait until so many lines are answered; later ones wait for ever."""

    async def answer(body: Any) -> Reply:
        if len(site.asked) > count:
            await asyncio.Event().wait()
        return Reply(200, b"{}")

    site.answer = answer  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await site.store.batch("a", batch.id)).completed >= count:
                return
            await asyncio.sleep(0.005)


async def test_a_cancelled_batch_keeps_its_answers_and_names_the_rest(site: Site) -> None:
    batch = await site.batch(many(1200))
    site.max_lines = 2000
    async with site.running():
        await some_answered(site, batch, 20)
        assert (await site.store.cancel("a", batch.id)).status is Status.CANCELLING
        batch = await site.has(batch, Status.CANCELLED)
        await eventually(lambda: site.at_once == 0)
    output, errors = site.results(batch)
    assert names(output) == [f"line-{n}" for n in range(20)]
    assert names(errors) == [f"line-{n}" for n in range(20, 1200)]
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert {each["response"] for each in errors} == {None}
    assert (batch.completed, batch.failed) == (20, 1180)
    assert site.observed.lines["cancelled"] == 1180


async def test_a_batch_that_is_cancelled_first_has_no_results(site: Site) -> None:
    batch = await site.batch(many(5))
    await site.store.cancel("a", batch.id)
    async with site.running():
        batch = await site.has(batch, Status.CANCELLED)
    assert (batch.total, batch.output_file_id, batch.error_file_id) == (0, None, None)
    assert not site.asked


async def test_a_batch_expires_with_what_it_has(site: Site) -> None:
    batch = await site.batch(many(30))
    async with site.running():
        await some_answered(site, batch, 10)
        site.now += WINDOW
        batch = await site.has(batch, Status.EXPIRED)
    output, errors = site.results(batch)
    assert names(output) == [f"line-{n}" for n in range(10)]
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}
    assert len(errors) == 20
    assert batch.times[Status.EXPIRED] == site.now


@pytest.mark.parametrize("end", [Status.CANCELLED, Status.EXPIRED])
async def test_a_batch_ends_as_it_should_although_its_files_cannot_be_written_at_first(
    site: Site, end: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, tried = Folder.keep, asyncio.Event()
    away = True

    async def unreliable(folder: Folder, upload: Path, file_id: str) -> None:
        if away:
            tried.set()
            raise Unavailable("The store of files cannot be read or written now.")
        await keep(folder, upload, file_id)

    monkeypatch.setattr(Folder, "keep", unreliable)
    monkeypatch.setattr("service.plugins.batches.runner.AFTER_FAILURE_SECONDS", 0.1)
    batch = await site.batch(many(30))
    async with site.running():
        await some_answered(site, batch, 10)
        if end is Status.CANCELLED:
            await site.store.cancel("a", batch.id)
        else:
            site.now += WINDOW
        await tried.wait()
        away = False
        batch = await site.has(batch, Status.COMPLETED, Status.CANCELLED, Status.EXPIRED)
    assert batch.status is end
    assert [len(lines) for lines in site.results(batch)] == [10, 20]


@pytest.mark.parametrize("end", [Status.CANCELLED, Status.EXPIRED])
async def test_a_batch_that_waits_for_another_ends_at_once(site: Site, end: Status) -> None:
    first = await site.batch(many(5))
    async with site.running():
        await some_answered(site, first, 1)
        site.now -= WINDOW // 2
        second = await site.batch(many(5))
        site.now += WINDOW // 2
        if end is Status.CANCELLED:
            await site.store.cancel("a", second.id)
        else:
            site.now += WINDOW // 2
        second = await site.has(second, end)
        now = await site.store.batch("a", first.id)
    assert now.status is Status.IN_PROGRESS
    assert not any(second.id.removeprefix("batch_") in name for name in site.asked)


@pytest.mark.parametrize("gone", [None, Tenant("a", tiers=(Tier.DEFAULT,))])
async def test_a_tenant_without_a_key_or_the_tier_is_not_served(
    site: Site, gone: Tenant | None
) -> None:
    if gone is None:
        del site.tenants["a"]
    else:
        site.tenants["a"] = gone
    batch = await site.batch(many(3))
    async with site.running():
        await site.has(batch, Status.IN_PROGRESS)
        other = await site.batch(many(3), "b")
        await site.has(other, Status.COMPLETED)
        assert (await site.store.batch("a", batch.id)).completed == 0
        site.tenants["a"] = Tenant("a")
        await site.has(batch, Status.COMPLETED)


async def test_a_batch_that_cannot_run_holds_up_no_other(site: Site) -> None:
    broken = await site.batch(many(3))
    site.folder.content(broken.input_file_id).unlink()
    later = await site.batch(many(3))
    async with site.running():
        await site.has(later, Status.COMPLETED)
    assert (await site.store.batch("a", broken.id)).status is Status.VALIDATING


async def test_a_batch_waits_while_its_tenant_has_no_room(site: Site) -> None:
    site.tenant_bytes = len(many(60)) + 3000
    batch, other = await site.batch(many(60)), await site.batch(many(3), "b")
    async with site.running():
        await site.has(other, Status.COMPLETED)
        async with asyncio.timeout(PATIENCE_S):
            while (await site.store.batch("a", batch.id)).answer_bytes < 3000:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)  # for more, which would be too much
        stopped = await site.store.batch("a", batch.id)
        assert 0 < stopped.completed < 60
        # Lines that were being answered may come on top.
        assert 3000 <= stopped.answer_bytes < 3000 + 5 * 300
    site.tenant_bytes = 1 << 30
    async with site.running():
        ended = await site.has(batch, Status.COMPLETED)
    assert len(site.results(ended)[0]) == 60
    assert ended.answer_bytes == 0


async def test_batches_that_wait_leave_their_places_to_others(site: Site) -> None:
    site.tenants |= {f"t{n}": Tenant(f"t{n}") for n in range(10)}

    async def answer(body: Any) -> Reply:
        if body["prompt"] == "refused":
            return Reply(429, b'{"error": {}}', retry_after=3600.0)
        return Reply(200, b"{}")

    site.answer = answer  # type: ignore[method-assign]
    waiting = [await site.batch(many(3, prompt="refused"), f"t{n}") for n in range(9)]
    last = await site.batch(many(3), "t9")
    async with site.running():
        await site.has(last, Status.COMPLETED)
        site.now += 100
        await eventually(lambda: site.observed.idle == 100)
        for batch in waiting:
            await site.store.cancel(batch.tenant, batch.id)
            await site.has(batch, Status.CANCELLED)
        await eventually(lambda: site.observed.idle == 0)


async def test_what_is_too_old_is_removed(site: Site) -> None:
    async with site.running():
        batch = await site.has(await site.batch(many(1)), Status.COMPLETED)
    assert batch.output_file_id is not None
    contents = [site.folder.content(name) for name in (batch.input_file_id, batch.output_file_id)]
    site.now += 3600
    async with site.running():
        await eventually(lambda: not contents[1].exists())
    assert contents[0].exists()
    site.now += 86_400
    async with site.running():
        await eventually(lambda: not contents[0].exists())
