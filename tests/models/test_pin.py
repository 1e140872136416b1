"""Pins of a base model, checked before the engine starts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from service.models.file_list import (
    LIST_FILE,
    FileList,
    ModelRefused,
    checked_digest,
    pin_folder,
    read_file_list,
)
from service.models.tensors import SINGLE_FILE
from tests.adapters.samples import write_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base(tmp_path / "tiny")


@pytest.fixture
def listed(folder: Path) -> FileList:
    return pin_folder(folder, "hf://acme/tiny@v1")


def flip(path: Path) -> None:
    """Change one bit in the middle of the last tensor, which the base's own digest does not see."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_the_pinned_folder_is_served(folder: Path, listed: FileList) -> None:
    base = base_model_digest(folder)
    assert checked_digest(folder, None) == base
    assert checked_digest(folder, listed.digest) == base
    assert checked_digest(folder, base) == base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: flip(folder / SINGLE_FILE), rf"model tiny: {SINGLE_FILE}: digest differs"),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            r"model tiny: config\.json: digest differs: expected sha256:.*, found sha256:",
        ),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("x"),
            r"model tiny: chat_template\.jinja: is not listed",
        ),
        (
            lambda folder: (folder / "tokenizer.json").unlink(),
            r"model tiny: tokenizer\.json: is missing",
        ),
    ],
    ids=["weights", "configuration", "added", "removed"],
)
def test_a_changed_file_is_refused_and_named(
    folder: Path, listed: FileList, change: Callable[[Path], object], message: str
) -> None:
    change(folder)
    with pytest.raises(ModelRefused, match=message):
        checked_digest(folder, listed.digest)


def test_without_a_digest_a_changed_folder_is_taken_as_it_is(
    folder: Path, listed: FileList
) -> None:
    flip(folder / SINGLE_FILE)
    assert checked_digest(folder, None) == base_model_digest(folder)


def test_a_forged_list_has_another_digest(folder: Path, listed: FileList) -> None:
    flip(folder / SINGLE_FILE)
    (folder / LIST_FILE).unlink()
    forged = pin_folder(folder, listed.source)
    with pytest.raises(
        ConfigurationError, match=rf"of its files, {forged.digest}, got {listed.digest}"
    ):
        checked_digest(folder, listed.digest)


def test_a_pin_of_files_needs_their_list(folder: Path, listed: FileList) -> None:
    (folder / LIST_FILE).unlink()
    base = base_model_digest(folder)
    with pytest.raises(ConfigurationError, match=rf"must be that of {folder}, {base}, got "):
        checked_digest(folder, listed.digest)


def test_the_digest_does_not_depend_on_the_source(folder: Path, listed: FileList) -> None:
    (folder / LIST_FILE).unlink()
    assert pin_folder(folder, "elsewhere").digest == listed.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "field schema"),
        ({"files": {"../secret": "sha256:" + "0" * 64}}, "field files"),
        ({"files": {}}, "field files"),
        ({"extra": 1}, "field extra: expected unknown key"),
    ],
)
def test_a_list_that_is_none_is_refused(
    folder: Path, listed: FileList, change: dict[str, object], message: str
) -> None:
    document = json.loads((folder / LIST_FILE).read_text()) | change
    (folder / LIST_FILE).write_text(json.dumps(document))
    with pytest.raises(ModelRefused, match=rf"model tiny: {LIST_FILE}: {message}"):
        read_file_list(folder)


def test_the_command_lists_a_folder_once(folder: Path) -> None:
    first = CliRunner().invoke(app, ["model", "pin", str(folder)])
    assert first.exit_code == 0, first.output
    listed = read_file_list(folder)
    assert listed is not None
    assert first.stdout.strip() == listed.digest
    assert set(listed.files) == {"config.json", "tokenizer.json", SINGLE_FILE}
    flip(folder / SINGLE_FILE)
    assert CliRunner().invoke(app, ["model", "pin", str(folder)]).stdout == first.stdout
