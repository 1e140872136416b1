"""`llm-service adapters` as its users run it."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from service.adapters.manifest_yaml import load_manifest
from service.admission.controller import AdmissionController
from service.cli.main import app
from service.generation.served_model import ServedModel
from service.models.base_model import ServedBase
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from tests.adapters.proven import failing, proven, served_base, sources
from tests.adapters.samples import AdapterFolder, describe, write_base
from tests.fake_engines import fake_engine
from tests.live_service import MODEL


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["adapters", *map(str, arguments)])


@pytest.fixture
def base(tmp_path: Path) -> ServedBase:
    return describe(write_base(tmp_path / "tiny"))


@pytest.fixture
def adapter(tmp_path: Path, base: ServedBase) -> AdapterFolder:
    return AdapterFolder(tmp_path / "adapters" / "sentiment", base)


@pytest.fixture
def starts() -> list[Settings]:
    """The settings of each engine that was started."""
    return []


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: list[Settings]) -> ServedBase:
    """The base in `tmp_path / "base"`, which commands that start an engine find served."""

    async def start(
        settings: Settings, admission: AdmissionController, metrics: Metrics
    ) -> ServedModel:
        starts.append(settings)
        return fake_engine()[0]

    monkeypatch.setattr("service.vllm.start.start_vllm", start)
    return served_base(write_base(tmp_path / "base"))


@pytest.fixture
def base_options(tmp_path: Path) -> tuple[object, ...]:
    return ("--base", tmp_path / "tiny")


def test_a_packed_folder_verifies_and_is_listed(
    adapter: AdapterFolder, base_options: tuple[object, ...], tmp_path: Path
) -> None:
    adapter.write_plain()
    draft = {key: adapter.manifest[key] for key in ("name", "version", "task", "prompt")}
    draft["classification"] = adapter.manifest["classification"]
    (tmp_path / "draft.yaml").write_text(yaml.safe_dump(draft))
    packed = run("pack", adapter.path, *base_options, "--draft", tmp_path / "draft.yaml", "--json")
    assert packed.exit_code == 0, packed.output
    assert "warning: unproven" in packed.stderr
    facts = json.loads(packed.stdout)
    assert facts["ok"] is True
    assert (facts["name"], facts["version"], facts["rank"]) == ("sentiment", "1.2.0", 4)
    assert json.loads(run("verify", adapter.path, *base_options, "--json").stdout) == facts
    (listed,) = json.loads(run("list", adapter.path.parent, "--json").stdout)
    assert listed["digest"] == facts["digest"]
    table = run("verify", adapter.path, *base_options).stdout
    assert "sentiment" in table
    assert facts["digest"] in table  # whole, for `digest` of a plan or an entry


def test_a_refused_adapter_is_explained_and_ends_with_1(
    adapter: AdapterFolder, base_options: tuple[object, ...]
) -> None:
    adapter.save()
    (adapter.path / "golden.jsonl").write_text("")
    for command in (
        ("verify", adapter.path, *base_options),
        ("push", adapter.path, "oci://127.0.0.1:9/tone:1"),
    ):
        refused = run(*command)
        assert refused.exit_code == 1
        assert "refused: adapter sentiment: golden.jsonl: is empty" in refused.stderr
        as_json = run(*command, "--json")
        assert as_json.exit_code == 1
        assert json.loads(as_json.stdout)["ok"] is False


def test_only_what_golden_examples_showed_is_proven(tmp_path: Path, served: ServedBase) -> None:
    good = asyncio.run(proven(tmp_path / "good", served, name="good"))
    plain = AdapterFolder(tmp_path / "plain", served)
    del plain.manifest["golden"]
    plain.write_plain()
    plain.seal()
    config = tmp_path / "config.yaml"

    def prove(*folders: Path) -> Result:
        tree = {
            "model": {"name": MODEL, "path": str(tmp_path / "base")},
            "adapters": sources(*folders),
            "adapter_cache": {"path": str(tmp_path / "cache")},
        }
        config.write_text(yaml.safe_dump(tree))
        return run("prove", "--config", config, "--json")

    shown = prove(good.path)
    assert shown.exit_code == 0, shown.output
    assert [row["accuracy"] for row in json.loads(shown.stdout)] == [1.0]
    shown = prove(good.path, plain.path)
    assert shown.exit_code == 1
    rows = {row["name"]: row["reason"] for row in json.loads(shown.stdout)}
    assert rows == {"good": None, "sentiment": "it has no golden examples"}


def test_packing_by_the_service_s_configuration_proves(tmp_path: Path, served: ServedBase) -> None:
    adapter = asyncio.run(proven(tmp_path / "good", served, name="good"))
    known = load_manifest(adapter.path)
    filled = ("schema", "base_model", "files", "fingerprint")
    draft = {key: value for key, value in adapter.manifest.items() if key not in filled}
    (tmp_path / "draft.yaml").write_text(yaml.safe_dump(draft))
    model = {"name": MODEL, "path": str(tmp_path / "base")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    options = ("--config", tmp_path / "config.yaml", "--draft", tmp_path / "draft.yaml")

    packed = run("pack", adapter.path, *options, "--overwrite", "--json")
    assert packed.exit_code == 0, packed.output
    assert load_manifest(adapter.path) == known
    failing(adapter)
    refused = run("pack", adapter.path, *options, "--overwrite")
    assert refused.exit_code == 1
    assert "0 of 4 right" in refused.stderr


def test_many_folders_are_packed_by_one_engine_and_a_refused_one_stops_no_other(
    tmp_path: Path, served: ServedBase, starts: list[Settings]
) -> None:
    (drafts := tmp_path / "drafts").mkdir()
    folders = []
    for name in ("bad", "good", "late", "other"):
        adapter = asyncio.run(proven(tmp_path / name, served, name=name))
        folders.append(adapter.path)
        filled = ("schema", "base_model", "files", "fingerprint")
        draft = {key: value for key, value in adapter.manifest.items() if key not in filled}
        (drafts / f"{name}.yaml").write_text(yaml.safe_dump(draft))
        if name == "bad":
            (adapter.path / "golden.jsonl").write_text("")
        if name == "late":  # its files are right, the proof fails
            failing(adapter)
    model = {"name": MODEL, "path": str(tmp_path / "base")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    options = ("--config", tmp_path / "config.yaml", "--overwrite", "--json")

    done = run("pack", *folders, *options, "--draft", drafts)
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"] for line in lines if line["ok"]] == ["good", "other"]
    refused = [line["error"].split(":")[0] for line in lines if not line["ok"]]
    assert refused == ["adapter bad", "adapter late"]
    assert len(starts) == 1

    one_file = run("pack", *folders, *options, "--draft", drafts / "good.yaml")
    assert one_file.exit_code == 2
    assert "is one file; for 4 folders give a folder of drafts" in one_file.stderr


def test_a_manifest_that_cannot_be_read_is_listed_and_ends_with_1(adapter: AdapterFolder) -> None:
    adapter.save()
    (adapter.path / "adapter.yaml").write_text("schema: 2")
    listed = run("list", adapter.path.parent, "--json")
    assert listed.exit_code == 1
    assert "adapter.yaml" in json.loads(listed.stdout)[0]["error"]


def test_what_cannot_be_used_ends_with_2_and_one_message(
    adapter: AdapterFolder, base_options: tuple[object, ...], tmp_path: Path
) -> None:
    for command in (
        ("verify", adapter.path, "--base", tmp_path / "nowhere"),
        ("list", tmp_path / "nowhere"),
        ("prove", "--config", tmp_path / "nowhere.yaml"),
        ("pack", adapter.path, *base_options, "--draft", tmp_path / "nowhere.yaml"),
        ("pack", adapter.path, "--draft", tmp_path / "nowhere.yaml"),
    ):
        ended = run(*command)
        assert ended.exit_code == 2, ended.output
        assert ended.stderr.startswith("error: ")


@pytest.mark.parametrize("command", ["pack", "verify", "list", "prove"])
def test_help_shows_an_example(command: str) -> None:
    assert f"llm-service adapters {command}" in run(command, "--help").stdout
