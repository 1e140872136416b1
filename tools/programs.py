"""Debian's programs that tests and harnesses run: from the PATH, else fetched without installing.

    python -m tools.programs promtool amtool docker-registry

fetches the packages of those that are not there into .cache/programs; `make test` does it. Needs
apt-get and dpkg, and root only where apt has no package lists yet.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = {
    "amtool": ("prometheus-alertmanager",),
    "docker-registry": ("docker-registry",),
    "prometheus": ("prometheus",),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
    "promtool": ("promtool", "prometheus"),  # Debian 13's own package, part of Debian 12's
    "valkey-server": ("valkey-server",),
}
"""Debian's packages that may hold each program, the newest release's first."""

FETCHED = Path(__file__).parents[1] / ".cache" / "programs"
_APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")


def program(name: str) -> str:
    """The path of a program; AssertionError with its package where it is missing."""
    path = _found(name)
    assert path, f"{name} was not found: install Debian's package {PACKAGES[name][0]}"
    return path


def missing(names: Sequence[str]) -> list[str]:
    """The packages of the programs that are not there, each once."""
    return sorted({PACKAGES[name][0] for name in names if not _found(name)})


def run(name: str, *arguments: str) -> str:
    """The output of a program that ends; AssertionError with its output where it fails."""
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fetch(name: str) -> None:
    """Download the package of a program and unpack it; AssertionError where that gives none.

    apt's lists are updated where there are none.
    """
    FETCHED.mkdir(parents=True, exist_ok=True)
    if not any(Path("/var/lib/apt/lists").glob("*Packages*")):
        subprocess.run([*_APT, "update"], check=False)
    for package in PACKAGES[name]:
        with tempfile.TemporaryDirectory(dir=FETCHED) as folder:
            subprocess.run([*_APT, "download", package], cwd=folder, check=False)
            for archive in Path(folder).glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(FETCHED)], check=True)
        if _found(name):
            return
    program(name)


def main(names: Sequence[str]) -> str | None:
    """Fetch what is missing of the named programs; returns the error to exit with, if any."""
    packages = missing(names)
    if not packages:
        return None
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        programs = ", ".join(names)
        return f"error: no apt-get to fetch {programs} with: put them on the PATH"
    print(f"==> fetching Debian's {', '.join(packages)} into .cache/programs", file=sys.stderr)
    for name in names:
        if not _found(name):
            try:
                fetch(name)
            except AssertionError as error:
                return f"error: {error}"
    return None


def _found(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(FETCHED / "usr" / "bin"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
