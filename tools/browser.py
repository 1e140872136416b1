"""Debian's headless Chromium for the tests of the console, fetched without installing.

    python -m tools.browser

fetches it with the libraries that this machine lacks (about 90 MB) into .cache/browser, unless it
is on the PATH. Needs apt-get and dpkg.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import programs
from tools.command_line import command_line

PROGRAM = "chromium-headless-shell"
_PACKAGES = (PROGRAM, "fonts-dejavu-core")
_FETCHED = Path(__file__).parents[1] / ".cache" / "browser"
_FOLDER = _FETCHED / "usr" / "lib"
_UNPACKED = _FOLDER / "chromium" / PROGRAM
_LIBRARIES = _FOLDER / "x86_64-linux-gnu"


def launch_options() -> dict[str, Any]:
    """Options with which Playwright launches it; AssertionError where it is missing."""
    path = _found()
    assert path, f"{PROGRAM} was not found: run `python -m tools.browser`"
    folders = (_LIBRARIES, _LIBRARIES / "pulseaudio", os.environ.get("LD_LIBRARY_PATH", ""))
    return {
        "executable_path": path,
        "env": os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, folders)).rstrip(":")},
        "chromium_sandbox": os.geteuid() != 0,  # root has none
    }


def main() -> str | None:
    """Fetch it if it is missing; returns the error to exit with, if any."""
    if _found():
        return None
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return f"error: no apt-get to fetch it with: install Debian's package {PROGRAM}"
    print(f"==> fetching Debian's {PROGRAM} into .cache/browser", file=sys.stderr)
    programs.update_lists()
    _FETCHED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FETCHED) as folder:
        (Path(folder) / "partial").mkdir()
        where = ("-o", f"Dir::Cache::archives={folder}")
        want = ("install", "--yes", "--download-only", "--no-install-recommends", *_PACKAGES)
        subprocess.run([*programs.APT, *where, *want], check=False)
        for archive in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(archive), str(_FETCHED)], check=True)
    return None if _found() else f"error: install Debian's package {PROGRAM}"


def _found() -> str | None:
    return shutil.which(PROGRAM) or (str(_UNPACKED) if _UNPACKED.exists() else None)


if __name__ == "__main__":
    command_line("tools.browser", __doc__).parse_args()
    sys.exit(main())
