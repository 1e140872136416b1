"""The choice between vLLM's public client and the fast one, by what the installed vLLM has."""

import json
from pathlib import Path

import msgspec
import pytest
from vllm.v1.engine.output_processor import OutputProcessor

from service.errors import ConfigurationError
from service.vllm import versions
from service.vllm.versions import RECORDED, choose, installed_version, standing
from tools.vllm_environment import served
from tools.vllm_uses import counted, declared, fast_members
from tools.vllm_versions import described


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    versions._described.cache_clear()


def test_the_installed_version_is_as_recorded() -> None:
    recorded = json.loads(RECORDED.read_text())[installed_version()]
    assert recorded == described()
    missing = [name for name, found in recorded["standing"].items() if found is None]
    assert len(missing) <= (0 if installed_version() == served() else 5), missing


def test_a_tested_version_is_reached_by_the_fast_client() -> None:
    assert choose("auto") == choose("fast") == ("fast", ())
    assert choose("stock") == ("stock", ())


@pytest.mark.parametrize("asked", ["slow", "", None, True])
def test_an_unknown_client_is_refused(asked: object) -> None:
    with pytest.raises(
        ConfigurationError, match=r"engine\.client: must be auto, stock, fast or remote"
    ):
        choose(asked)


MESSAGES = [name for name in fast_members() if name.startswith("vllm.v1.engine:EngineCore")]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_renamed_field_is_named_and_the_public_client_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = name.partition(":")
    fields = [*(standing([name])[name] or ())[:-1], "renamed"]
    versions._described.cache_clear()
    monkeypatch.setattr(f"{module}.{kind}", msgspec.defstruct(kind, fields))
    client, notes = choose("auto")
    assert client == "stock"
    assert [each.partition(": ")[0] for each in notes] == [name]
    with pytest.raises(ConfigurationError, match="fast stands on parts of vLLM that differ"):
        choose("fast")


def test_a_changed_signature_and_a_missing_name_are_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OutputProcessor, "process_outputs", lambda self, outputs, more: None)
    monkeypatch.delattr(OutputProcessor, "propagate_error")
    found = choose("auto").notes
    assert len(found) == 2
    assert found[0].startswith("vllm.v1.engine.output_processor:OutputProcessor.process_outputs: ")
    assert "new more" in found[0]
    assert found[1].endswith("OutputProcessor.propagate_error is missing")


def test_another_version_is_not_reached_by_the_fast_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(versions, "version", lambda package: "0.99.1+cpu")
    choice = choose("auto")
    assert choice.client == "stock"
    assert choice.notes == (
        f"version 0.99.1 was not tested, only {', '.join(json.loads(RECORDED.read_text()))}",
    )


def test_few_names_of_vllm_are_imported_outside_the_fast_way_and_the_repairs() -> None:
    names, modules, files = counted()
    assert names <= 45
    assert modules <= 30
    assert files <= 16


def test_the_public_client_imports_nothing_of_the_fast_one() -> None:
    """What another version lacks is imported only after the check."""
    folder = Path(versions.__file__).parent
    files = [file for file in folder.rglob("*.py") if "fast" not in file.relative_to(folder).parts]
    assert len(files) > 20
    for file in files:
        lines = file.read_text().splitlines()
        assert not [line for line in lines if line.startswith("from service.vllm.fast")], file


def test_every_declared_member_is_in_the_installed_version() -> None:
    members = sorted({use.member for use in declared()})
    assert len(members) > 120
    missing = [name for name, found in standing(members).items() if found is None]
    # What an older version lacks, the service looks for before it uses it.
    assert len(missing) <= (0 if installed_version() == served() else 10), missing
