"""The fleet on the fake engine: proof, quarantine and reload, complete or not at all."""

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import PATIENCE_S, eventually
from service.adapters import fetch, golden_score
from service.adapters.fleet import AdapterFleet, FleetChange
from service.adapters.formats import PatternRefused
from service.adapters.manifest_yaml import load_manifest
from service.adapters.metrics import AdapterMetrics
from service.adapters.registry import Failure, ServedVersion
from service.adapters.verify import VerifiedAdapter, verify
from service.errors import ConfigurationError, Conflict, InvalidRequest
from service.models.base_model import ServedBase
from service.settings.tree import ModelSettings, Settings
from tests.adapters.proven import INPUTS, best_label, failing, proven, served_base, sources
from tests.adapters.samples import AdapterFolder, write_base
from tests.fake_engines import fake_engine
from tests.live_service import MODEL
from tests.staged_engine import StagedModel

Configure = Callable[..., Settings]


@pytest.fixture
def served(base_folder: Path) -> ServedBase:
    return served_base(base_folder)


@pytest.fixture
def configure(base_folder: Path, tmp_path: Path) -> Configure:
    def settings(*folders: Path, **others: Any) -> Settings:
        model = ModelSettings(name=MODEL, path=base_folder)
        others = {"adapters": sources(*folders), **others}
        return Settings(model=model, **{"adapter_cache": {"path": tmp_path / "cache"}} | others)

    return settings


class Fleet(AdapterFleet):
    """A fleet on an engine of its own, and its metrics."""

    def __init__(self) -> None:
        self.engine, self.admission = fake_engine()
        self.metrics = CollectorRegistry()
        super().__init__(self.engine, MODEL, AdapterMetrics(self.metrics))

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.get_sample_value(f"inference_adapter_{name}", labels)


async def resident(engine: StagedModel) -> int:
    return len(await engine.resident_adapters())


async def test_a_proven_adapter_is_served_with_its_proof(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    await proven(tmp_path / "a", served)
    fleet = Fleet()
    change = await fleet.apply(configure(tmp_path / "a"))
    assert change == FleetChange(("sentiment@1.0.0",), (), (), ())
    version = fleet.registry.acquire("sentiment")
    assert version is not None
    assert version.proof is not None
    assert (version.proof.result.passed, version.proof.result.total) == (len(INPUTS), len(INPUTS))
    assert version.classifier is not None
    assert fleet.value("proof_accuracy", adapter="sentiment") == 1
    assert fleet.value("state", adapter="sentiment", state="serving") == 1
    assert fleet.admission.in_flight == 0


async def test_an_adapter_without_a_fingerprint_is_served_unproven_or_refused(
    tmp_path: Path, served: ServedBase, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = await proven(tmp_path / "a", served)
    del adapter.manifest["fingerprint"]
    adapter.write_manifest()
    fleet = Fleet()
    await fleet.apply(configure(tmp_path / "a"))
    version = fleet.registry.acquire("sentiment")
    assert version is not None
    assert (version.state, version.unproven) == ("unproven", "it has no fingerprint")
    assert fleet.value("state", adapter="sentiment", state="unproven") == 1
    assert fleet.value("state", adapter="sentiment", state="serving") == 0
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "served unproven: it has no fingerprint" in warning.getMessage()
    with pytest.raises(ConfigurationError, match=r"adapter sentiment: .*require_proof"):
        await fleet.apply(configure(tmp_path / "a", require_proof=True))


async def test_the_configured_name_and_digest_count(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    adapter = await proven(tmp_path / "a", served)
    fleet = Fleet()
    entry = {"source": str(adapter.path), "name": "Prod/Tone"}
    await fleet.apply(configure(adapters=[entry]))
    assert fleet.registry.acquire("Prod/Tone@1.0.0") is not None
    assert list(fleet.registry.entries) == ["Prod/Tone"]
    pinned = entry | {"digest": "sha256:" + "0" * 64}
    with pytest.raises(ConfigurationError, match="is not the pinned one: expected sha256:000"):
        await Fleet().apply(configure(adapters=[pinned]))


def _cut(adapter: AdapterFolder) -> None:
    weights = adapter.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _unreadable_label(adapter: AdapterFolder) -> None:
    adapter.manifest["prompt"] = {"template": "Review: {input}"}
    adapter.save()


BROKEN: list[tuple[str, Callable[[AdapterFolder], object], str]] = [
    ("bytes", _cut, "adapter_model.safetensors: .*expected"),
    ("proof", failing, "golden.jsonl: proof: expected an accuracy of at least 0.9, found 0 of 4"),
    ("labels", _unreadable_label, "classification: expected labels that can be read"),
]


@pytest.mark.parametrize(("breaks", "message"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
async def test_a_broken_adapter_ends_the_start_and_leaves_nothing_loaded(
    tmp_path: Path,
    served: ServedBase,
    configure: Configure,
    breaks: Callable[[AdapterFolder], object],
    message: str,
) -> None:
    await proven(tmp_path / "good", served, name="good")
    breaks(await proven(tmp_path / "bad", served, name="bad", seed=1))
    fleet = Fleet()
    with pytest.raises(ConfigurationError, match=f"adapter bad: .*{message}"):
        await fleet.apply(configure(tmp_path / "good", tmp_path / "bad"))
    assert fleet.registry.entries == {}
    assert await resident(fleet.engine) == 0


@pytest.mark.parametrize(("breaks", "message"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
@pytest.mark.parametrize("policy", ["quarantine", "not required"])
async def test_a_broken_adapter_is_quarantined_and_the_rest_serves(
    tmp_path: Path,
    served: ServedBase,
    configure: Configure,
    policy: str,
    breaks: Callable[[AdapterFolder], object],
    message: str,
) -> None:
    await proven(tmp_path / "good", served, name="good")
    breaks(await proven(tmp_path / "bad", served, name="bad", seed=1))
    adapters = sources(tmp_path / "good", tmp_path / "bad")
    others: dict[str, Any] = {"adapters_on_failure": "quarantine"}
    if policy == "not required":
        others = {}
        adapters[1]["required"] = False
    fleet = Fleet()
    change = await fleet.apply(configure(adapters=adapters, **others))
    assert (change.loaded, change.quarantined) == (("good@1.0.0",), ("bad",))
    assert isinstance(fleet.registry.entries["good"], ServedVersion)
    assert isinstance(fleet.registry.entries["bad"], Failure)
    assert await resident(fleet.engine) == 1
    assert fleet.value("state", adapter="bad", state="quarantined") == 1
    assert fleet.value("proof_accuracy", adapter="bad") is None


async def test_an_error_that_nobody_foresaw_is_one_adapters_alone(
    tmp_path: Path,
    served: ServedBase,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await proven(tmp_path / "good", served, name="good")
    await proven(tmp_path / "bad", served, name="bad", seed=1)

    def checked(folder: Path, base: ServedBase) -> VerifiedAdapter:
        if load_manifest(folder).name == "bad":
            raise OverflowError("int too large")
        return verify(folder, base)

    monkeypatch.setattr(fetch, "verify", checked)
    folders = tmp_path / "good", tmp_path / "bad"
    change = await Fleet().apply(configure(*folders, adapters_on_failure="quarantine"))
    assert (change.loaded, change.quarantined) == (("good@1.0.0",), ("bad",))
    assert "Traceback" in caplog.text
    with pytest.raises(ConfigurationError, match=r"adapter bad: .*OverflowError: int too large"):
        await Fleet().apply(configure(*folders))


async def test_every_failure_is_named_at_once(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    for name in ("one", "two"):
        failing(await proven(tmp_path / name, served, name=name))
    with pytest.raises(ConfigurationError, match=r"2 adapters .*\n.*adapter one.*\n.*adapter two"):
        await Fleet().apply(configure(tmp_path / "one", tmp_path / "two"))


async def test_a_proof_that_takes_too_long_is_a_failure(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    await proven(tmp_path / "a", served)
    fleet = Fleet()
    fleet.engine.raw.frozen = True
    with pytest.raises(ConfigurationError, match=r"proof: expected answers within 0\.05 s"):
        await fleet.apply(configure(tmp_path / "a", golden_timeout_s=0.05))
    assert fleet.admission.in_flight == fleet.admission.queued == 0
    assert await resident(fleet.engine) == 0


async def test_slow_patterns_leave_the_event_loop_free_and_refuse_the_adapter(
    tmp_path: Path, served: ServedBase, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = AdapterFolder(tmp_path / "a", served)
    del adapter.manifest["classification"]
    golden = {"file": "golden.jsonl", "match": "regex", "max_tokens": 8}
    adapter.manifest |= {"task": "generation", "golden": golden}
    adapter.golden = [{"prompt": "hello", "pattern": "x"}]
    adapter.save()
    loop_ran = threading.Event()
    loop = asyncio.get_running_loop()

    def slow(pattern: str, text: str) -> bool:
        loop.call_soon_threadsafe(loop_ran.set)
        raise PatternRefused("over 1 s" if loop_ran.wait(PATIENCE_S) else "the loop stood still")

    monkeypatch.setattr(golden_score, "full_match", slow)
    says = "golden.jsonl: proof: expected patterns that answer in time, found line 1: over 1 s"
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        await Fleet().apply(configure(tmp_path / "a"))


async def test_an_engine_without_room_for_adapters_says_so(
    tmp_path: Path, configure: Configure
) -> None:
    engine, _ = fake_engine(max_lora_rank=0)
    fleet = AdapterFleet(engine, MODEL, AdapterMetrics(CollectorRegistry()))
    with pytest.raises(ConfigurationError, match=r"engine\.enable_lora"):
        await fleet.apply(configure(tmp_path / "a"))


async def test_a_reload_loads_only_what_changed_and_drops_what_is_gone(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    for index, name in enumerate(("stays", "changes", "goes")):
        await proven(tmp_path / name, served, name=name, seed=index)
    fleet = Fleet()
    await fleet.apply(configure(*(tmp_path / name for name in ("stays", "changes", "goes"))))
    stays, changes = fleet.registry.entries["stays"], fleet.registry.entries["changes"]
    await proven(tmp_path / "changes", served, name="changes", version="2.0.0", seed=7)
    change = await fleet.reload(lambda: configure(tmp_path / "stays", tmp_path / "changes"))
    assert change == FleetChange(
        ("changes@2.0.0",), ("stays@1.0.0",), ("changes@1.0.0", "goes@1.0.0"), ()
    )
    assert fleet.registry.entries["stays"] is stays
    new = fleet.registry.entries["changes"]
    assert isinstance(changes, ServedVersion)
    assert isinstance(new, ServedVersion)
    assert new.adapter.engine_id > changes.adapter.engine_id
    assert new.adapter.engine_name != changes.adapter.engine_name
    await eventually(lambda: len(fleet.engine.raw._weights) == 2)
    assert fleet.value("reloads_total", outcome="ok") == 1
    assert fleet.value("state", adapter="goes", state="serving") is None


async def test_a_reload_verifies_against_the_base_that_is_served(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    await proven(tmp_path / "a", served)
    other = served_base(write_base(tmp_path / "other", seed=1))
    await proven(tmp_path / "b", other, name="tone")
    fleet = Fleet()
    await fleet.apply(configure())
    elsewhere = ModelSettings(name=MODEL, path=tmp_path / "other")
    later = configure(tmp_path / "a").model_copy(update={"model": elsewhere})
    assert (await fleet.reload(lambda: later)).loaded == ("sentiment@1.0.0",)
    wrong = configure(tmp_path / "b").model_copy(update={"model": elsewhere})
    with pytest.raises(Conflict, match="base"):
        await fleet.reload(lambda: wrong)


async def test_the_cache_keeps_what_is_served_and_what_requests_still_run_with(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    fleet = Fleet()

    async def apply(version: str) -> list[Path]:
        adapter = await proven(tmp_path / "a", served, version=version)
        await fleet.apply(
            configure(adapter.path, adapter_cache={"path": tmp_path / "cache", "unused_days": 0})
        )
        return list((tmp_path / "cache" / "entries").iterdir())

    assert len(await apply("1.0.0")) == 1
    running = fleet.registry.acquire("sentiment")
    assert running is not None
    assert len(await apply("2.0.0")) == 2
    fleet.registry.release(running)
    assert len(await apply("3.0.0")) == 1


@pytest.mark.parametrize("policy", ["refuse_start", "quarantine"])
@pytest.mark.parametrize(("breaks", "message"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
async def test_a_failed_reload_keeps_the_old_and_says_why(
    tmp_path: Path,
    served: ServedBase,
    configure: Configure,
    breaks: Callable[[AdapterFolder], object],
    message: str,
    policy: str,
) -> None:
    await proven(tmp_path / "a", served)
    fleet = Fleet()
    settings = configure(tmp_path / "a", adapters_on_failure=policy)
    await fleet.apply(settings)
    before = dict(fleet.registry.entries)
    breaks(await proven(tmp_path / "a", served, version="2.0.0", seed=1))
    with pytest.raises(Conflict, match=f"adapter sentiment: .*{message}") as refused:
        await fleet.reload(lambda: settings)
    assert refused.value.code == "adapter_refused"
    assert dict(fleet.registry.entries) == before
    assert await resident(fleet.engine) == 1
    assert fleet.value("reloads_total", outcome="failed") == 1


def _no_yaml(folder: Path) -> Path:
    (folder / "adapter.yaml").write_text("name: [broken")
    return folder


def _moved(folder: Path) -> Path:
    return folder.parent / "never-seen"


@pytest.mark.parametrize("policy", [{"required": False}, {"required": True}], ids=str)
@pytest.mark.parametrize("breaks", [_no_yaml, _moved])
async def test_a_failure_of_unknown_name_takes_no_served_name_away(
    tmp_path: Path,
    served: ServedBase,
    configure: Configure,
    breaks: Callable[[Path], Path],
    policy: dict[str, bool],
) -> None:
    folder = (await proven(tmp_path / "tone-v2", served, name="sentiment")).path
    fleet = Fleet()
    await fleet.apply(configure(folder))
    before = dict(fleet.registry.entries)
    entry = {"source": str(breaks(folder)), **policy}
    lenient = configure(adapters=[entry], adapters_on_failure="quarantine")
    with pytest.raises(Conflict, match=r"adapter\.yaml: ") as refused:
        await fleet.reload(lambda: lenient)
    assert refused.value.code == "adapter_refused"
    assert dict(fleet.registry.entries) == before


async def test_a_renamed_adapter_that_fails_takes_no_served_name_away(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    adapter = await proven(tmp_path / "tone", served, name="sentiment")
    fleet = Fleet()
    lenient = configure(adapter.path, adapters_on_failure="quarantine")
    await fleet.apply(lenient)
    before = dict(fleet.registry.entries)
    failing(await proven(tmp_path / "tone", served, name="mood"))
    with pytest.raises(Conflict, match="adapter mood: ") as refused:
        await fleet.reload(lambda: lenient)
    assert refused.value.code == "adapter_refused"
    assert dict(fleet.registry.entries) == before


async def test_an_adapter_that_fails_at_a_new_address_may_replace_one_that_is_gone(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    fleet = Fleet()
    await fleet.apply(configure((await proven(tmp_path / "a", served, name="sentiment")).path))
    failing(await proven(tmp_path / "b", served, name="mood"))
    lenient = configure(tmp_path / "b", adapters_on_failure="quarantine")
    change = await fleet.reload(lambda: lenient)
    assert (change.removed, change.quarantined) == (("sentiment@1.0.0",), ("mood",))


async def test_a_failure_of_unknown_name_beside_all_that_is_served_is_quarantined(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    folder = (await proven(tmp_path / "tone-v2", served, name="sentiment")).path
    fleet = Fleet()
    await fleet.apply(configure(folder))
    folders = folder, tmp_path / "a" / "sentiment", tmp_path / "b" / "other"
    change = await fleet.reload(lambda: configure(*folders, adapters_on_failure="quarantine"))
    assert change.unchanged == ("sentiment@1.0.0",)
    assert change.quarantined == ("sentiment (2)", "other")


async def test_a_reload_with_a_broken_configuration_changes_nothing(
    tmp_path: Path, served: ServedBase, configure: Configure
) -> None:
    await proven(tmp_path / "a", served)
    fleet = Fleet()
    await fleet.apply(configure(tmp_path / "a"))

    def broken() -> Settings:
        raise ConfigurationError("config.yaml: not valid")

    with pytest.raises(InvalidRequest, match="not valid") as refused:
        await fleet.reload(broken)
    assert refused.value.code == "configuration_invalid"
    assert fleet.registry.acquire("sentiment") is not None


async def test_two_versions_give_different_answers(tmp_path: Path, served: ServedBase) -> None:
    for seed in range(4):
        await proven(tmp_path / f"{seed}", served, seed=seed)
    said = {
        tuple([await best_label(tmp_path / f"{seed}", f"text {n}") for n in range(16)])
        for seed in range(4)
    }
    assert len(said) == 4
