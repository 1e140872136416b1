"""A stand-in for the base image, for machines that reach no image registry.

Debian, from the mirror that this machine's apt uses, with the Python that runs this in /usr/local,
which is what the official image holds.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "image"
NAME = "localhost/llm-service-base:trixie"
SUITE = "trixie"
# Libraries that the extension modules of Python link to.
LIBRARIES = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8t64,"
    "libsqlite3-0,libssl3t64,libuuid1,libzstd1,zlib1g"
)


def base_image() -> str:
    """The name of the stand-in in local storage, made once."""
    if subprocess.run(["podman", "image", "exists", NAME], check=False).returncode:
        CACHE.mkdir(parents=True, exist_ok=True)
        archive = CACHE / f"{SUITE}.tar"
        if not archive.is_file():
            make(archive)
        subprocess.run(["podman", "import", "--quiet", str(archive), NAME], check=True)
    return NAME


def make(archive: Path) -> None:
    """Write the root file system; it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root, partial = Path(folder) / "python", Path(folder) / "base.tar"
        copy_python(root / "usr" / "local")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={LIBRARIES}"]
        command += [f"--customize-hook=sync-in {root} /", '--customize-hook=chroot "$1" ldconfig']
        subprocess.run([*command, SUITE, str(partial), mirror()], check=True)
        partial.rename(archive)


def mirror() -> str:
    """The Debian mirror that apt uses on this machine."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(IDENTIFIER)"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in run.stdout.splitlines():
        site, _, rest = line.partition(" ")
        if site.startswith("http") and rest == f"{SUITE} Packages":
            return site
    raise SystemExit(f"apt knows no mirror of {SUITE}; pass BASE_IMAGE=<an image with Python 3.11>")


def copy_python(prefix: Path) -> None:
    """Copy this interpreter, without its packages, tests and headers."""
    source = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ignored = shutil.ignore_patterns("site-packages", "test", "config-*", "__pycache__", "idlelib")
    shutil.copytree(source / "lib" / version, prefix / "lib" / version, ignore=ignored)
    for library in (source / "lib").glob("libpython3*.so*"):
        shutil.copy2(library, prefix / "lib" / library.name, follow_symlinks=False)
    (prefix / "bin").mkdir()
    shutil.copy2(source / "bin" / version, prefix / "bin" / version)
    for name in ("python3", "python"):
        (prefix / "bin" / name).symlink_to(version)
