"""Installation of the clients' packages, as they are pinned, into .cache/clients."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from loadtests.environments import FOLDER as ENVIRONMENTS
from loadtests.environments import environment

FOLDER = Path(__file__).parent
CACHE = Path(".cache/clients").absolute()
"""The packages, and copies of the scripts, which Node needs beside its packages."""

NODE = CACHE / "node/node_modules/.bin/node"
"""Node itself comes with the packages, of which some need a newer one than distributions have."""

_NODE = FOLDER / "node/package.json"
_SHARED = {
    "frameworks": [
        "llama-index",
        "autogen-agent",
        "semantic-kernel",
        "google-adk",
        "mem0-memory",
        "dspy-program",
    ],
    "gateways": ["vllm-router", "smg-gateway", "sglang-router"],
}
"""Lists of packages that several scripts have in place of `pins.txt`."""


def install(scripts: Iterable[str]) -> frozenset[str]:
    """Install what these scripts need and is missing or differs; returns those that can run."""
    found = {"python": True, "node": shutil.which("npm"), "java": shutil.which("javac")}
    ready = frozenset(name for name in scripts if found[name.partition("/")[0]])
    folders = {name.partition("/")[0] for name in ready}
    for pins in sorted({_pins(name) for name in ready if name.startswith("python/")}):
        environment(pins)
    if "node" in folders:
        _install_node()
    for folder in folders:
        shutil.copytree(FOLDER / folder, CACHE / folder, dirs_exist_ok=True)
    return ready


def python_of(script: str) -> Path:
    """The interpreter of a script's environment."""
    return ENVIRONMENTS / _pins(script).stem / "bin/python"


def versions(script: str) -> Mapping[str, str]:
    """The pinned version of each package that a script may import."""
    if script.startswith("python/"):
        text = _pins(script).read_text(encoding="utf-8")
        return dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    if script.startswith("node/"):
        pinned: dict[str, str] = json.loads(_NODE.read_text(encoding="utf-8"))["dependencies"]
        return pinned
    shown = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True)
    return {"java.net.http": shown.stdout.split()[1]}


def _pins(script: str) -> Path:
    """The list of a Python script's packages: its own or its group's, which others would upset."""
    own = Path(script).stem
    groups = (name for name, members in _SHARED.items() if own in members)
    found = (FOLDER / f"python/{name}.txt" for name in (own, *groups))
    return next((pins for pins in found if pins.is_file()), FOLDER / "python/pins.txt")


def _install_node() -> None:
    folder = CACHE / "node"
    installed = folder / ".installed.json"
    if installed.is_file() and installed.read_bytes() == _NODE.read_bytes():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_NODE, folder)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error"]
    subprocess.run(npm, cwd=folder, check=True)
    shutil.copyfile(_NODE, installed)
