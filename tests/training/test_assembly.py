"""A finished adapter takes its place whole or not at all."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from training.assembly import beside


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def write_half(output: Path, error: BaseException) -> None:
    with beside(output) as folder:
        (folder / "a").write_text("half")
        raise error


def test_a_folder_takes_its_place(tmp_path: Path) -> None:
    output = tmp_path / "adapters" / "films"
    with beside(output) as folder:
        (folder / "a").write_text("new")
        assert not output.exists()
    assert names(output.parent) == ["films"]
    assert (output / "a").read_text() == "new"


def test_it_replaces_what_was_there_as_a_whole(tmp_path: Path) -> None:
    output = tmp_path / "films"
    output.mkdir()
    (output / "old").write_text("old")
    with beside(output) as folder:
        (folder / "a").write_text("new")
    assert names(output) == ["a"]
    assert names(tmp_path) == ["films"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("proof")])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    output = tmp_path / "films"
    output.mkdir()
    (output / "old").write_text("old")
    with pytest.raises(type(error)):
        write_half(output, error)
    assert names(tmp_path) == ["films"]
    assert names(output) == ["old"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "films"
    full = OSError(28, "No space left on device")
    with pytest.raises(ConfigurationError, match=r"films cannot be written: .*No space left"):
        write_half(output, full)
    assert names(tmp_path) == []
