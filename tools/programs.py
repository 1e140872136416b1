"""Debian's programs and libraries, from the system or else fetched without installing.

    python -m tools.programs promtool amtool docker-registry curl libnuma.so.1

fetches the packages of those that are not there into .cache/programs; `make run` and `make test`
do it. Needs apt-get and dpkg, and root only where apt has no package lists yet.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.command_line import command_line

PACKAGES = {
    "amtool": ("prometheus-alertmanager",),
    "curl": ("curl", "libcurl4", "libcurl4t64"),
    "docker-registry": ("docker-registry",),
    "haproxy": ("haproxy", "liblua5.4-0", "libopentracing-c-wrapper0t64", "libopentracing1"),
    "libnuma.so.1": ("libnuma1",),
    "nginx": ("nginx",),
    "prometheus": ("prometheus",),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
    "promtool": ("promtool", "prometheus"),
    "valkey-server": ("valkey-server", "valkey-tools", "liblzf1", "libjemalloc2"),
}
"""Debian's packages that hold each of them; those that a release of Debian lacks are left out."""

FETCHED = Path(__file__).parents[1] / ".cache" / "programs"
_PROGRAMS = os.pathsep.join(str(FETCHED / "usr" / folder) for folder in ("bin", "sbin"))
_LIBRARIES = FETCHED / "usr" / "lib" / "x86_64-linux-gnu"
APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")


def program(name: str) -> str:
    """The path of a program, or a library's name; AssertionError with the package to install."""
    path = _found(name)
    assert path, f"{name} was not found: install Debian's package {PACKAGES[name][0]}"
    return path


def missing(names: Sequence[str]) -> list[str]:
    """The packages of the missing programs, each once."""
    return sorted({PACKAGES[name][0] for name in names if not _found(name)})


def environment() -> dict[str, str]:
    """The environment of this process, in which fetched programs and their libraries are found."""
    extended = {"PATH": _PROGRAMS, "LD_LIBRARY_PATH": str(_LIBRARIES)}
    added = {name: f"{os.environ.get(name, '')}:{folder}" for name, folder in extended.items()}
    return os.environ | {name: value.strip(":") for name, value in added.items()}


def run(name: str, *arguments: str) -> str:
    """The output of a program that ends; AssertionError with its output where it fails."""
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fetch(name: str) -> None:
    """Download the packages of a program and unpack them; AssertionError if that fails."""
    FETCHED.mkdir(parents=True, exist_ok=True)
    update_lists()
    with tempfile.TemporaryDirectory(dir=FETCHED) as folder:
        for package in PACKAGES[name]:
            subprocess.run([*APT, "download", package], cwd=folder, stderr=subprocess.DEVNULL)
        for archive in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(FETCHED)], check=True)
    program(name)


def of_suite(name: str, suite: str) -> Path:
    """A program of another suite of Debian, such as forky, unpacked into .cache/programs/SUITE.

    AssertionError where apt does not find it there.
    """
    folder = FETCHED / suite
    found = folder / "usr" / "bin" / name
    if found.exists():
        return found
    fields = ("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    lines = subprocess.run(["apt-get", *fields], capture_output=True, text=True).stdout.split()
    mirror = next(line for line in lines if line.startswith("http"))
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb {mirror} {suite} main\n")
    places = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": lists,
        "Dir::Cache": folder / "cache",
    }
    apt = [*APT, *(part for key, value in places.items() for part in ("-o", f"{key}={value}"))]
    subprocess.run([*apt, "update"], check=False)
    with tempfile.TemporaryDirectory(dir=folder) as download:
        subprocess.run([*apt, "download", PACKAGES[name][0]], cwd=download)
        for archive in Path(download).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
    assert found.exists(), f"Debian's {suite} has no {name} that apt could download"
    return found


def update_lists() -> None:
    """Have apt fetch its lists of packages where there are none."""
    if not any(Path("/var/lib/apt/lists").glob("*Packages*")):
        subprocess.run([*APT, "update"], check=False)


def provide(names: Sequence[str]) -> str | None:
    """Fetch what is missing of the named programs; returns the error to exit with, if any."""
    packages = missing(names)
    if not packages:
        return None
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return f"error: no apt-get to fetch {', '.join(packages)} with: install what they hold"
    print(f"==> fetching Debian's {', '.join(packages)} into .cache/programs", file=sys.stderr)
    for name in names:
        if not _found(name):
            try:
                fetch(name)
            except AssertionError as error:
                return f"error: {error}"
    return None


def _found(name: str) -> str | None:
    if ".so" not in name:
        return shutil.which(name) or shutil.which(name, path=_PROGRAMS)
    for library in (name, str(_LIBRARIES / name)):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return library
    return None


if __name__ == "__main__":
    parser = command_line("tools.programs", __doc__)
    parser.add_argument(
        "names", nargs="+", choices=PACKAGES, metavar="NAME", help=", ".join(PACKAGES)
    )
    sys.exit(provide(parser.parse_args().names))
