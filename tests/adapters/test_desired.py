"""The list of adapters on the fake engine: what it names is served, and nothing else is lost."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import eventually
from service.adapters import desired
from service.adapters.desired import DesiredAdapters
from service.adapters.fleet import AdapterFleet
from service.adapters.metrics import AdapterMetrics
from service.errors import Conflict, InvalidRequest, NotFound
from service.models.base_model import ServedBase
from service.settings.adapters import ListedAdapter
from service.settings.load import load_settings
from tests.adapters.proven import failing, proven, served_base
from tests.fake_engines import fake_engine
from tests.live_service import MODEL


@pytest.fixture
def served(base_folder: Path) -> ServedBase:
    return served_base(base_folder)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(desired, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(desired, "_LONGEST_PAUSE_S", 0.1)


class Replica:
    """A fleet that follows a list, and what it shows."""

    def __init__(self, config: Path) -> None:
        self.engine, _ = fake_engine()
        self.metrics = CollectorRegistry()
        shown = AdapterMetrics(self.metrics)
        self._config, self._settings = config, load_settings(config)
        self.fleet = AdapterFleet(self.engine, MODEL, shown)
        self._shown = shown
        self.adapters: DesiredAdapters

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        await self.fleet.apply(self._settings)
        self.adapters = DesiredAdapters(
            self.fleet, self._settings, lambda: load_settings(self._config), self._shown
        )
        following = asyncio.create_task(self.adapters.follow())
        yield self
        following.cancel()
        await asyncio.wait([following])

    def states(self) -> dict[str, str]:
        return {each.name: each.state for each in self.adapters.report().adapters}

    def error(self, name: str) -> str:
        states = {each.name: each for each in self.adapters.report().adapters}
        return states[name].error or ""

    async def until(self, **states: str) -> None:
        await eventually(lambda: self.states() == states and self.adapters.report().list_digest)

    def value(self, name: str) -> float | None:
        return self.metrics.get_sample_value(f"inference_{name}")


class Place:
    """A configuration, and the list that it names."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.list, self.config = folder / "adapters.yaml", folder / "config.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "model": {"name": MODEL, "path": str(base)},
                    "adapters_path": "adapters.yaml",
                    "adapter_cache": {"path": str(folder / "cache")},
                }
            )
        )

    def write(self, *adapters: dict[str, Any]) -> None:
        """Replace the list in one step, since half a list is a fault of its own."""
        new = self.list.with_suffix(".new")
        new.write_text(json.dumps({"adapters": adapters}))
        new.replace(self.list)


@pytest.fixture
def place(tmp_path: Path, base_folder: Path) -> Place:
    return Place(tmp_path, base_folder)


ONE = {"name": "one", "source": "one"}
TWO = {"name": "two", "source": "two"}


async def test_the_list_adds_replaces_and_retires(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    await proven(tmp_path / "two", served, name="two", seed=1)
    place.write()
    async with Replica(place.config).running() as replica:
        assert replica.states() == {}
        place.write(ONE, TWO)
        await replica.until(one="serving", two="serving")
        kept, old = (replica.fleet.registry.acquire(name) for name in ("one", "two"))
        assert old is not None
        await proven(tmp_path / "new", served, name="two", version="2.0.0", seed=2)
        place.write(ONE, {"name": "two", "source": "new"})
        await eventually(lambda: replica.states().get("two") == "retiring")
        new = replica.fleet.registry.find("two")
        assert (new.manifest.version, replica.fleet.registry.find("one")) == ("2.0.0", kept)
        replica.fleet.registry.release(old)
        place.write(ONE)
        await replica.until(one="serving")
        await eventually(lambda: len(replica.engine.raw._weights) == 1)
        assert replica.value("adapters_behind") == 0


async def test_a_failure_keeps_the_old_version_and_is_told_until_it_is_mended(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        bad = failing(await proven(tmp_path / "bad", served, name="one", version="2.0.0", seed=1))
        await proven(tmp_path / "two", served, name="two", seed=2)
        place.write({"name": "one", "source": "bad"}, {"name": "nowhere", "source": "gone"}, TWO)
        await replica.until(one="failed", nowhere="failed", two="serving")
        assert replica.fleet.registry.find("one").manifest.version == "1.0.0"
        assert "expected an accuracy of at least" in replica.error("one")
        assert "gone" in replica.error("nowhere")
        assert not replica.adapters.report().converged
        assert replica.value("adapters_behind") == 2
        # Complete folders only: a half-written one may be a smaller adapter that is served.
        await proven(tmp_path / "good", served, name="one", version="2.0.0", seed=1)
        await proven(tmp_path / "there", served, name="nowhere", seed=3)
        bad.path.rename(tmp_path / "away")
        (tmp_path / "good").rename(bad.path)
        (tmp_path / "there").rename(tmp_path / "gone")
        await replica.until(one="serving", nowhere="serving", two="serving")
        assert replica.fleet.registry.find("one").manifest.version == "2.0.0"
        assert replica.adapters.report().converged


async def test_what_fails_at_the_start_ends_no_start(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        assert replica.states() == {"one": "failed"}
        await proven(tmp_path / "there", served, name="one")
        (tmp_path / "there").rename(tmp_path / "one")
        await replica.until(one="serving")


async def test_a_pin_refuses_other_bytes(tmp_path: Path, served: ServedBase, place: Place) -> None:
    await proven(tmp_path / "one", served, name="one")
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        await replica.until(one="serving")
        (state,) = replica.adapters.report().adapters
        place.write(ONE | {"digest": "sha256:" + "0" * 64})
        await replica.until(one="failed")
        assert "is not the pinned one" in replica.error("one")
        place.write(ONE | {"digest": state.digest})
        await replica.until(one="serving")
        assert replica.adapters.report().adapters[0].wanted == state.digest


BROKEN = {
    "syntax": ("adapters: [", "not valid YAML"),
    "no list": ("{}", "must hold a list `adapters`"),
    "no name": ('adapters: [{source: "one"}]', "name: required"),
    "twice": (json.dumps({"adapters": [ONE, ONE]}), "the name 'one' is given 2 times"),
    "the base": (json.dumps({"adapters": [ONE | {"name": MODEL}]}), "is taken already"),
    "unknown key": (json.dumps({"adapters": [ONE | {"digset": "x"}]}), "digset"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_list_changes_nothing(
    tmp_path: Path,
    served: ServedBase,
    place: Place,
    caplog: pytest.LogCaptureFixture,
    text: str,
    message: str,
) -> None:
    await proven(tmp_path / "one", served, name="one")
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        await replica.until(one="serving")
        (tmp_path / "new.yaml").write_text(text)
        (tmp_path / "new.yaml").replace(place.list)
        await eventually(lambda: message in (replica.adapters.report().list_error or ""))
        assert replica.states() == {"one": "serving"}
        assert not replica.adapters.report().converged
        assert replica.value("adapter_list_accepted") == 0
        with pytest.raises(InvalidRequest, match=message.replace("(", ".")):
            await replica.adapters.reload()
        await asyncio.sleep(0.1)
        place.write(ONE)
        await eventually(lambda: replica.adapters.report().converged)
        assert replica.value("adapter_list_accepted") == 1
    assert caplog.text.count("changed list of adapters refused") == 1


async def test_a_config_map_changes_by_its_link(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    await proven(tmp_path / "two", served, name="two", seed=1)
    mount = tmp_path / "mount"
    place.config.write_text(place.config.read_text().replace("adapters.yaml", "mount"))

    def publish(number: int, *adapters: dict[str, Any]) -> None:
        (version := mount / f"..{number}").mkdir(parents=True)
        anchored = [each | {"source": str(tmp_path / each["source"])} for each in adapters]
        (version / "adapters.yaml").write_text(json.dumps({"adapters": anchored}))
        (mount / "..new").symlink_to(version.name)
        os.replace(mount / "..new", mount / "..data")
        if number == 0:
            (mount / "adapters.yaml").symlink_to("..data/adapters.yaml")

    publish(0, ONE)
    async with Replica(place.config).running() as replica:
        await replica.until(one="serving")
        publish(1, TWO)
        await replica.until(two="serving")
        with pytest.raises(Conflict, match="is a folder"):
            await replica.adapters.remove("two")


async def test_a_reload_fetches_again_what_an_address_holds(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    one = await proven(tmp_path / "one", served, name="one")
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        await replica.until(one="serving")
        await proven(one.path, served, name="one", version="2.0.0", seed=1)
        change = await replica.adapters.reload()
        assert (change.loaded, change.removed) == (("one@2.0.0",), ("one@1.0.0",))
        failing(one)
        with pytest.raises(Conflict, match="adapter one"):
            await replica.adapters.reload()
        assert replica.states() == {"one": "failed"}
        assert replica.fleet.registry.find("one").manifest.version == "2.0.0"


async def test_the_api_writes_the_list_that_replicas_share(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    await proven(tmp_path / "two", served, name="two", seed=1)
    place.write(ONE)
    first, second = Replica(place.config), Replica(place.config)
    async with first.running(), second.running():
        state = await first.adapters.put(ListedAdapter.model_validate(TWO))
        assert state.state in ("loading", "serving")
        for each in (first, second):
            await each.until(one="serving", two="serving")
        digests = {each.adapters.report().list_digest for each in (first, second)}
        assert len(digests) == 1
        await second.adapters.remove("one")
        for each in (first, second):
            await each.until(two="serving")
        with pytest.raises(NotFound, match="'one' is not in the list"):
            await first.adapters.remove("one")
    assert [each.name for each in load_settings(place.config).adapters] == ["two"]


async def test_a_list_that_cannot_be_written_says_where_to_change_it(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    place.write(ONE)
    async with Replica(place.config).running() as replica:
        await replica.until(one="serving")
        (tmp_path / ".adapters.yaml.lock").mkdir()  # even root cannot lock a folder
        with pytest.raises(Conflict, match=r"cannot be written .*ConfigMap"):
            await replica.adapters.remove("one")
        assert replica.states() == {"one": "serving"}


async def test_a_change_during_a_proof_ends_it(
    tmp_path: Path, served: ServedBase, place: Place
) -> None:
    await proven(tmp_path / "one", served, name="one")
    await proven(tmp_path / "two", served, name="two", seed=1)
    place.write()
    async with Replica(place.config).running() as replica:
        replica.engine.raw.frozen = True
        place.write(ONE)
        await eventually(lambda: replica.states() == {"one": "loading"})
        await eventually(lambda: len(replica.engine.raw._weights) == 1)
        place.write(TWO)
        await eventually(lambda: replica.states() == {"two": "loading"})
        replica.engine.raw.frozen = False
        await replica.until(two="serving")
        await eventually(lambda: len(replica.engine.raw._weights) == 1)
