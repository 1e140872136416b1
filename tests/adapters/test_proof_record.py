"""The record of proofs: what it spares at the next start, and what is never taken from it."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.adapters import proof as proof_module
from service.adapters import proof_record
from service.adapters.fleet import AdapterFleet
from service.adapters.formats import AdapterRefused
from service.adapters.metrics import AdapterMetrics
from service.adapters.proof import Proof
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.settings.tree import ModelSettings, Settings
from tests.adapters.proven import INPUTS, failing, proven, served_base, sources
from tests.adapters.samples import AdapterFolder
from tests.fake_engines import fake_engine
from tests.live_service import MODEL

_FINGERPRINT = 2 * len(INPUTS)
"""Reads of a fingerprint of the adapter and of its base."""


class Start:
    """One start of a service with the adapters of `folders`, on an engine of its own."""

    def __init__(self, base: Path, cache: Path, **others: Any) -> None:
        self._settings = {"model": ModelSettings(name=MODEL, path=base), **others}
        self._cache = {"path": cache} | others.pop("adapter_cache", {})

    async def proof(self, folder: Path) -> tuple[Proof, int]:
        """The proof of the adapter in a folder, and the reads that it took."""
        engine, _ = fake_engine()
        fleet = AdapterFleet(engine, MODEL, AdapterMetrics(CollectorRegistry()))
        settings = {**self._settings, "adapters": sources(folder), "adapter_cache": self._cache}
        await fleet.apply(Settings(**settings))
        (version,) = fleet.registry.versions
        assert version.proof is not None
        return version.proof, engine.raw.starts


@pytest.fixture
def served(base_folder: Path) -> ServedBase:
    return served_base(base_folder)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def adapter(tmp_path: Path, served: ServedBase) -> AdapterFolder:
    return await proven(tmp_path / "a", served)


@pytest.fixture
def start(base_folder: Path, cache: Path) -> Start:
    return Start(base_folder, cache)


def record(cache: Path) -> Path:
    (found,) = (cache / "proofs").glob("*.json")
    return found


async def test_a_proven_adapter_shows_only_a_part_of_its_fingerprint_at_the_next_start(
    start: Start, adapter: AdapterFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_module, "_PLACES_AGAIN", 2)
    first, all_reads = await start.proof(adapter.path)
    again, reads = await start.proof(adapter.path)
    assert (first.recorded, again.recorded) == (False, True)
    assert again.result == first.result
    assert again.base == replace(first.base, failure=None)
    assert again.fingerprint is not None
    assert again.fingerprint.holds
    assert reads == again.fingerprint.reads == 2 < _FINGERPRINT < all_reads
    assert {each.stat().st_mode & 0o777 for each in (cache / "proofs").iterdir()} == {0o600}


async def test_a_part_of_the_fingerprint_that_differs_is_not_the_last_word(
    start: Start, adapter: AdapterFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, all_reads = await start.proof(adapter.path)
    compare, asked = proof_module.compare_fingerprint, list[bool]()

    async def differ(*arguments: Any, before: Any = None) -> Any:
        asked.append(before is not None)
        if before:
            raise AdapterRefused("a", "adapter.yaml", "fingerprint", "the packed one", "another")
        return await compare(*arguments)

    monkeypatch.setattr(proof_module, "compare_fingerprint", differ)
    again, reads = await start.proof(adapter.path)
    assert (again.recorded, again.fingerprint) == (False, first.fingerprint)
    assert (asked, reads) == ([True, False], all_reads)


def _raise_the_base(cache: Path) -> None:
    file = record(cache)
    told = json.loads(file.read_text())
    told["base_passed"] = told["total"]
    file.write_text(json.dumps(told))


def _another_key(cache: Path) -> None:
    (cache / "proofs" / "key").write_bytes(bytes(32))


def _short_key(cache: Path) -> None:
    (cache / "proofs" / "key").write_bytes(b"")


def _open_key(cache: Path) -> None:
    (cache / "proofs" / "key").chmod(0o644)


def _linked_record(cache: Path) -> None:
    file = record(cache)
    file.rename(cache / "elsewhere")
    file.symlink_to(cache / "elsewhere")


def _cut(cache: Path) -> None:
    record(cache).write_bytes(record(cache).read_bytes()[:-1])


def _of_another(cache: Path) -> None:
    """The record of another adapter, under this one's name."""
    file = record(cache)
    told = json.loads(file.read_text())
    told["of"]["adapter"] = "sha256:" + "0" * 64
    changed = proof_record._Record.model_validate_json(json.dumps(told))
    mac = proof_record._code((cache / "proofs" / "key").read_bytes(), changed)
    file.write_text(changed.model_copy(update={"mac": mac}).model_dump_json())


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_raise_the_base, "its code is not that of this service's key"),
        (_another_key, "its code is not that of this service's key"),
        (_short_key, "it cannot be used: PermissionError"),
        (_open_key, "it cannot be used: PermissionError"),
        (_linked_record, "it cannot be used: OSError"),
        (_cut, "it cannot be used: ValidationError"),
        (_of_another, "it is of another adapter"),
    ],
)
async def test_a_record_that_others_may_have_written_is_ignored(
    start: Start,
    adapter: AdapterFolder,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    tamper: Callable[[Path], None],
    reason: str,
) -> None:
    _, all_reads = await start.proof(adapter.path)
    tamper(cache)
    proof, reads = await start.proof(adapter.path)
    assert (proof.recorded, reads) == (False, all_reads)
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert f"every golden example is asked: {reason}" in warning.getMessage()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_key_of_another_user_is_not_used(
    start: Start, adapter: AdapterFolder, cache: Path
) -> None:
    await start.proof(adapter.path)
    os.chown(cache / "proofs" / "key", 65534, 65534)
    assert not (await start.proof(adapter.path))[0].recorded


@pytest.mark.parametrize("changed", ["processor", "packages", "code_digest", "engine"])
async def test_an_adapter_is_proven_again_where_its_answers_could_be_others(
    start: Start,
    adapter: AdapterFolder,
    base_folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: str,
) -> None:
    await start.proof(adapter.path)
    if changed == "engine":
        start = Start(base_folder, cache, engine={"dtype": "float16"})
    else:
        monkeypatch.setattr(proof_record, changed, lambda: "another")
    proof, _ = await start.proof(adapter.path)
    assert not proof.recorded
    named = {"packages": "engine", "code_digest": "service"}.get(changed, changed)
    assert f"it is of another {named}" in caplog.text
    assert (await start.proof(adapter.path))[0].recorded


async def test_other_weights_are_found_whatever_is_recorded(
    start: Start, adapter: AdapterFolder, cache: Path
) -> None:
    await start.proof(adapter.path)
    shutil.rmtree(cache / "entries")
    weights = adapter.path / "adapter_model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(ConfigurationError, match="digest"):
        await start.proof(adapter.path)
    # Under digests that are right it is another adapter, which has no record.
    adapter.tensors = {name: each * np.float32(0.5) for name, each in adapter.tensors.items()}
    adapter.save()
    with pytest.raises(ConfigurationError, match="fingerprint: expected log-probabilities"):
        await start.proof(adapter.path)


async def test_a_change_of_the_golden_examples_or_the_manifest_is_proven_again(
    start: Start, adapter: AdapterFolder
) -> None:
    await start.proof(adapter.path)
    adapter.manifest["golden"]["min_accuracy"] = 0.75
    adapter.write_manifest()
    assert not (await start.proof(adapter.path))[0].recorded
    failing(adapter)
    with pytest.raises(ConfigurationError, match="0 of 4 right"):
        await start.proof(adapter.path)
    with pytest.raises(ConfigurationError, match="0 of 4 right"):
        await start.proof(adapter.path)


async def test_an_adapter_without_a_fingerprint_answers_its_examples_at_every_start(
    start: Start, adapter: AdapterFolder, cache: Path
) -> None:
    del adapter.manifest["fingerprint"]
    adapter.write_manifest()
    for _ in range(2):
        assert not (await start.proof(adapter.path))[0].recorded
    assert not (cache / "proofs").exists()


def test_nothing_is_recorded_of_an_engine_that_others_run(base_folder: Path, cache: Path) -> None:
    settings = Settings(
        model=ModelSettings(name=MODEL, path=base_folder), adapter_cache={"path": cache}
    )
    model = fake_engine()[0].model
    assert proof_record.open_record(settings, model) is not None
    assert proof_record.open_record(settings, replace(model, client="remote")) is None


async def test_nothing_is_recorded_where_the_settings_or_the_folder_forbid_it(
    base_folder: Path, adapter: AdapterFolder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    off = Start(base_folder, cache, adapter_cache={"proofs": False})
    for _ in range(2):
        assert not (await off.proof(adapter.path))[0].recorded
    assert not (cache / "proofs").exists()
    (cache / "proofs").write_text("a file")
    on = Start(base_folder, cache)
    assert not (await on.proof(adapter.path))[0].recorded
    assert "its proof is not recorded" in caplog.text


def test_a_processor_is_told_by_its_model_and_its_gpus_by_theirs(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    core = "processor\t: 0\nmodel name\t: Fast\ncpu MHz\t\t: 2400.1\nflags\t\t: avx2\n"
    (tmp_path / "proc/cpuinfo").write_text(f"{core}\n{core}\n")
    assert proof_record.processor(tmp_path) == "model name\t: Fast\nflags\t\t: avx2"
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    gpu.parent.mkdir(parents=True)
    gpu.write_text("Model: \t\t H100\nIRQ:   \t\t 42\n")
    assert proof_record.processor(tmp_path).endswith("\nModel: \t\t H100")
