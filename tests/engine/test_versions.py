"""The choice between vLLM's public client and the fast one, by what the installed vLLM has."""

import json
import logging
from pathlib import Path

import msgspec
import pytest
from vllm.v1.engine.output_processor import OutputProcessor

from service.errors import ConfigurationError
from service.vllm import versions
from service.vllm.versions import (
    FIELDS,
    RECORDED,
    choose,
    described,
    installed_version,
    standing,
)


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    versions._described.cache_clear()


def test_the_installed_version_is_as_recorded() -> None:
    recorded = json.loads(RECORDED.read_text())[installed_version()]
    assert recorded == described()
    assert all(recorded["standing"].values())


def test_a_tested_version_is_reached_by_the_fast_client() -> None:
    assert choose("auto") == choose("fast") == ("fast", ())
    assert choose("stock") == ("stock", ())


@pytest.mark.parametrize("asked", ["slow", "", None, True])
def test_an_unknown_client_is_refused(asked: object) -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.client: must be auto, stock or fast"):
        choose(asked)


@pytest.mark.parametrize("name", [name for name in FIELDS if name.startswith("vllm.v1.engine:")])
def test_a_renamed_field_is_named_and_the_public_client_taken(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, _, kind = name.partition(":")
    fields = [f"{field}_" if field == "request_id" else field for field in standing()[name] or ()]
    fields = fields if fields != standing()[name] else [*fields[:-1], "renamed"]
    versions._described.cache_clear()
    monkeypatch.setattr(f"{module}.{kind}", msgspec.defstruct(kind, fields))
    with caplog.at_level(logging.WARNING, "service.vllm.versions"):
        kind_chosen, differences = choose("auto")
    assert kind_chosen == "stock"
    assert [each.partition(": ")[0] for each in differences] == [name]
    assert name in caplog.text
    with pytest.raises(ConfigurationError, match="fast stands on parts of vLLM that differ"):
        choose("fast")


def test_a_changed_signature_and_a_missing_name_are_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OutputProcessor, "process_outputs", lambda self, outputs, more: None)
    monkeypatch.delattr(OutputProcessor, "propagate_error")
    found = choose("auto").differences
    assert len(found) == 2
    assert found[0].startswith("vllm.v1.engine.output_processor:OutputProcessor.process_outputs: ")
    assert "new more" in found[0]
    assert found[1].endswith("OutputProcessor.propagate_error is missing")


def test_another_version_is_not_reached_by_the_fast_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vllm.version.__version__", "0.99.1+cpu")
    choice = choose("auto")
    assert choice.kind == "stock"
    assert choice.differences == (
        f"version 0.99.1 was not tested, only {', '.join(json.loads(RECORDED.read_text()))}",
    )
