"""Virtual environments for programs of others, which must not share our packages."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

FOLDER = Path(".cache/clients/venvs").resolve()


def environment(pins: Path, lent: Iterable[str] = ()) -> Path:
    """The folder of programs of an environment with a list's packages, installed if it differs.

    `lent` are distributions of this interpreter that it gets as links: a build of torch that suits
    the machine is large and is chosen once.
    """
    venv = FOLDER / pins.stem
    installed = venv / "pins.txt"
    if not installed.is_file() or installed.read_bytes() != pins.read_bytes():
        print(f"installing {pins.name} into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip: list[str | Path] = [
            venv / "bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
        ]
        subprocess.run([*pip, "--requirement", pins], check=True)
        for name in lent:
            _lend(name, venv)
        shutil.copyfile(pins, installed)
    return venv / "bin"


def _lend(name: str, venv: Path) -> None:
    lent = distribution(name)
    (packages,) = venv.glob("lib/python*/site-packages")
    for top in {file.parts[0] for file in lent.files or ()} - {"..", "__pycache__"}:
        (packages / top).symlink_to(Path(str(lent.locate_file(top))).resolve())
