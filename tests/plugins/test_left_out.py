"""The service without one of its plugins: the rest works, and of the plugin there is no trace."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PLUGINS = sorted(each.parent.name for each in (ROOT / "service/plugins").glob("*/plugin.py"))
GONE = {
    "batches": ("batches", "/v1/batches", "inference_batch", "batches"),
    "console": (None, "/console", None, None),
    "decisions": (None, "/v1/decisions", None, None),
    "guards": ("guards", "/v1/moderations", "inference_guard", None),
    "messages": (None, "/v1/messages", None, None),
    "planning": (None, None, None, "init"),
    "responses": (None, "/v1/responses", None, None),
    "rollouts": ("releases", "/v1/feedback", "inference_release", "releases"),
    "sbom": (None, "/v1/adapters/{name}/bom", None, None),
    "tei": ("tei", "/embed", None, None),
    "usage": ("usage", "/v1/usage", None, "usage"),
}
"""The section, a route, the beginning of the series, and the command of each plugin."""

SLOW = (
    "admission",
    "architecture",
    "container",
    "deploy",
    "docs",
    "engine",
    "helm",
    "loadtests",
    "tools",
)
"""Tests that know no plugin, compare pages with all of them, or need an engine."""

SCRIPT = """
import subprocess, sys
import httpx, typer
from service.cli.main import app
from service.runtime.parts import plugin_types
from service.settings.tree import settings_type
from tests.live_service import MODEL, LiveService

plugin, section, route, series, command = (each or None for each in sys.argv[1:])
assert plugin not in plugin_types() and len(plugin_types()) == 10, plugin_types()
assert section not in settings_type().model_fields
with LiveService(encoders=[{"name": "classify", "path": "unused"}]) as live:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    asked = {
        "/v1/chat/completions": chat,
        "/v1/messages": chat,
        "/v1/responses": {"model": MODEL, "input": "Hello", "max_output_tokens": 3},
        "/v1/completions": {"model": MODEL, "prompt": "Hello", "max_tokens": 3, "stream": True},
        "/v1/generate": {"model": MODEL, "prompt": "Hello", "max_tokens": 3},
        "/v1/classify": {"model": "classify", "input": "sun and rain"},
    }
    asked.pop(route, None)
    for path, body in asked.items():
        answer = httpx.post(live.url + path, json=body)
        assert answer.status_code == 200, answer.text
    assert route not in {getattr(each, "path", "") for each in live.app.routes}
    exposed = httpx.get(f"{live.ops_url}/metrics").text
    assert series is None or series not in exposed
    assert "inference_requests_total" in exposed
group = typer.main.get_command(app)
listed = set(group.list_commands(typer.Context(group)))
assert {"keys", "model"} <= listed, listed
assert command is None or command not in listed, listed
run = [sys.executable, "-m", "service.cli.main", "--help"]
subprocess.run(run, capture_output=True, text=True, check=True)
"""


def without(plugin: str, folder: Path) -> Path:
    """A copy of the repository without a plugin, its tests and those of several plugins."""
    tests = ROOT / "tests/plugins"
    own = {ROOT / "service/plugins" / plugin, tests / plugin, tests / "together", Path(__file__)}

    def skipped(place: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or Path(place, name) in own]

    for name in ("service", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for each in ROOT.iterdir():
        if not (folder / each.name).exists() and each.name != ".git":
            (folder / each.name).symlink_to(each)
    return folder


def test_every_plugin_is_tried() -> None:
    assert PLUGINS == sorted(GONE)


@pytest.mark.parametrize("plugin", GONE)
def test_without_its_folder_the_rest_works(plugin: str, tmp_path: Path) -> None:
    folder = without(plugin, tmp_path / "copy")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", SCRIPT, plugin, *(each or "" for each in GONE[plugin])]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.mark.plugins
@pytest.mark.parametrize("plugin", GONE)
def test_without_its_folder_the_tests_of_the_rest_pass(plugin: str, tmp_path: Path) -> None:
    folder = without(plugin, tmp_path / "copy")
    tests = sorted(each.name for each in (folder / "tests").iterdir() if each.is_dir())
    fast = [f"tests/{name}" for name in tests if name not in SLOW]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *fast]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
