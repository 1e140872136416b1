"""The script that installs the pinned lists: torch by its hash, where one is given."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "requirements/install.sh"


def write_wheel(folder: Path) -> str:
    """A wheel named torch that pip can install, of the CPU by its version; returns its sha256."""
    wheel, info = folder / "torch-1.0-py3-none-any.whl", "torch-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torch/__init__.py", "")
        archive.writestr("torch/version.py", "__version__ = '1.0+cpu'\ncuda = None\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip alone, of which each test takes a copy."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.mark.parametrize("given", ["right", "wrong", "none"])
def test_torch_is_installed_by_the_hash_that_is_given(
    fresh: Path, tmp_path: Path, given: str
) -> None:
    right = write_wheel(tmp_path)
    hashes = {"right": right, "wrong": "0" * 64, "none": ""}
    (tmp_path / "list.txt").write_text("torch==1.0\n")
    shutil.copytree(fresh, tmp_path / "venv", symlinks=True)
    environment = os.environ | {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "TORCH_SHA256": hashes[given],
    }
    result = subprocess.run(
        [INSTALL, tmp_path / "venv/bin/python", tmp_path / "list.txt"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode == 0) is (given != "wrong"), result.stderr
    if given == "wrong":
        assert "DO NOT MATCH THE HASHES" in result.stderr
