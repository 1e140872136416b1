"""A keyring that follows its files, and keeps what it has when they break."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests.processes import eventually
from service.errors import ConfigurationError
from service.tenants import keyring as live_keyring
from service.tenants.keyring import LiveKeyring, read_keys
from tools.keys import entry, key_of, sha256_of, write_keys

LOOK_SECONDS = live_keyring.LOOK_SECONDS


class Readings:
    """Implements `tenants.TenancyObserver`; remembers how each reading went."""

    def __init__(self) -> None:
        self.accepted: list[bool] = []

        self.weights: Mapping[str, float] = {}

    def weights_read(self, weights: Mapping[str, float]) -> None:
        self.weights = weights

    def keys_read(self, accepted: bool) -> None:
        self.accepted.append(accepted)

    def quota_store_failed(self, reason: str) -> None:
        raise AssertionError(reason)


@asynccontextmanager
async def following(ring: LiveKeyring) -> AsyncIterator[None]:
    watch = asyncio.create_task(ring.follow())
    yield
    watch.cancel()
    await asyncio.wait([watch])


def knows(ring: LiveKeyring, tenant: str) -> bool:
    return ring.tenant_of(key_of(tenant)) is not None


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_keyring, "LOOK_SECONDS", 0.005)


def test_the_files_are_looked_at_often_enough_for_five_seconds() -> None:
    assert LOOK_SECONDS <= 2


async def test_files_that_stay_as_they_are_are_not_taken_over_again(tmp_path: Path) -> None:
    readings = Readings()
    async with following(LiveKeyring(write_keys(tmp_path / "k", entry("a")), readings)):
        await asyncio.sleep(0.05)
    assert readings.accepted == []


def test_a_tenant_is_found_by_a_key_and_by_its_name_while_the_key_lives(tmp_path: Path) -> None:
    dead = [{"sha256": sha256_of(key_of("b")), "expires": "2020-01-01T00:00:00Z"}]
    path = write_keys(tmp_path / "k", entry("a"), entry("b", keys=dead))
    ring = LiveKeyring(path, Readings())
    assert (knows(ring, "a"), knows(ring, "b")) == (True, False)
    assert ring.tenant_named("a") == ring.tenant_of(key_of("a"))
    assert ring.tenant_named("b") is None


async def test_added_and_revoked_keys_take_effect(tmp_path: Path) -> None:
    readings = Readings()
    ring = LiveKeyring(write_keys(tmp_path / "k", entry("a")), readings)
    assert readings.weights == {"a": 1.0}
    async with following(ring):
        assert (knows(ring, "a"), knows(ring, "b")) == (True, False)
        write_keys(tmp_path / "k", entry("a"), entry("b"))
        await eventually(lambda: knows(ring, "b"))
        assert readings.weights == {"a": 1.0, "b": 1.0}
        write_keys(tmp_path / "k", entry("b", weight=3))
        await eventually(lambda: not knows(ring, "a"))
        assert readings.weights == {"b": 3.0}
    assert set(readings.accepted) == {True}


async def test_a_broken_file_keeps_the_keys_and_is_logged_once_with_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_keys(tmp_path / "k", entry("a"))
    readings = Readings()
    ring = LiveKeyring(path, readings)
    with caplog.at_level(logging.ERROR):
        async with following(ring):
            (tmp_path / "new").write_text("tenants:\n  - name: a\n    wieght: 3\n")
            (tmp_path / "new").rename(path)  # in one step: half a file would be a fault of its own
            await eventually(lambda: readings.accepted == [False])
            await asyncio.sleep(0.05)
            assert knows(ring, "a")
            path.unlink()
            await eventually(lambda: readings.accepted == [False, False])
            await asyncio.sleep(0.05)
            assert knows(ring, "a")
            write_keys(path, entry("b"))
            await eventually(lambda: knows(ring, "b"))
    broken, missing = (record.getMessage() for record in caplog.records)
    assert "k:3: tenants[0].wieght: unknown key" in broken
    assert "cannot be read" in missing
    assert readings.accepted == [False, False, True]


async def test_files_that_come_back_as_they_were_are_accepted(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "k", entry("a"))
    readings = Readings()
    async with following(LiveKeyring(path, readings)):
        path.rename(tmp_path / "elsewhere")
        await eventually(lambda: readings.accepted == [False])
        (tmp_path / "elsewhere").rename(path)
        await eventually(lambda: readings.accepted == [False, True])


async def test_a_failure_of_any_kind_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings()
    ring = LiveKeyring(write_keys(tmp_path / "k", entry("a")), readings)
    failures = 0

    def fail(path: Path) -> dict[str, bytes]:
        nonlocal failures
        failures += 1
        raise MemoryError

    monkeypatch.setattr(live_keyring, "read_keys", fail)
    async with following(ring):
        await eventually(lambda: failures > 1)
        assert set(readings.accepted) == {False}
        monkeypatch.setattr(live_keyring, "read_keys", read_keys)
        write_keys(tmp_path / "k", entry("b"))
        await eventually(lambda: knows(ring, "b"))
    assert readings.accepted[-1]


def test_keys_that_are_broken_from_the_start_are_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("tenants: 3")
    with pytest.raises(ConfigurationError, match=r"k:1: tenants: "):
        LiveKeyring(tmp_path / "k", Readings())
