"""The release's version stands in several files, and its notes are the changelog's."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tools.release import ROOT, disagreements, main, notes_of

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n- b\n## [1.2.0] - 2026-01-01\n\n- a\n\n## [1.1.0]\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "Dockerfile", "helm/Chart.yaml", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_files_name_one_version() -> None:
    assert disagreements(VERSION, ROOT) == []


def test_notes_are_the_versions_section() -> None:
    assert notes_of("1.2.0", CHANGELOG) == "- a"
    assert notes_of("1.1.0", CHANGELOG) == ""
    assert notes_of("1.2", CHANGELOG) == ""


def test_a_release_prints_its_notes(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CHANGELOG.replace("1.2.0", VERSION)
    (copy / "CHANGELOG.md").write_text(text)
    assert main(f"v{VERSION}", copy) == 0
    assert capsys.readouterr().out == "- a\n"


def test_every_disagreement_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("v99.0.0", copy) == 1
    said = capsys.readouterr().err
    for name in ("pyproject.toml", "helm/Chart.yaml", "Dockerfile", "CHANGELOG.md"):
        assert f"{name}: " in said
