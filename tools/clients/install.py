"""Installation of the clients' packages, as they are pinned, into .cache/clients."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
CACHE = Path(".cache/clients").absolute()
"""The packages, and copies of the scripts, which Node needs beside its packages."""

VENV = CACHE / "venv"

_PYTHON, _NODE = FOLDER / "python/pins.txt", FOLDER / "node/package.json"


def install() -> frozenset[str]:
    """Install what is missing or differs; returns the folders of scripts that can run here."""
    found = {"python": True, "node": shutil.which("npm"), "java": shutil.which("javac")}
    _unless_same(_PYTHON, VENV / "pins.txt", _install_python)
    if found["node"]:
        _unless_same(_NODE, CACHE / "node/.installed.json", _install_node)
    there = frozenset(name for name, program in found.items() if program)
    for folder in there:
        shutil.copytree(FOLDER / folder, CACHE / folder, dirs_exist_ok=True)
    return there


def versions(folder: str) -> Mapping[str, str]:
    """The pinned version of each package of the scripts in a folder."""
    if folder == "python":
        return dict(re.findall(r"^([\w-]+)==(\S+)", _PYTHON.read_text(), re.MULTILINE))
    if folder == "node":
        pinned: dict[str, str] = json.loads(_NODE.read_text())["dependencies"]
        return pinned
    shown = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True)
    return {"java.net.http": shown.stdout.split()[1]}


def _unless_same(pins: Path, installed: Path, make: Callable[[], None]) -> None:
    if installed.is_file() and installed.read_bytes() == pins.read_bytes():
        return
    make()
    shutil.copyfile(pins, installed)


def _install_python() -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip: list[str | Path] = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--requirement", _PYTHON], check=True)


def _install_node() -> None:
    folder = CACHE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_NODE, folder)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error"]
    subprocess.run(npm, cwd=folder, check=True)
