"""The plugin of docs/plugins.md, installed as a package beside the service."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks

FILES = {block.title: block.text for block in blocks(DOCS / "plugins.md") if block.title}
SCRIPT = """
import sys
import httpx
from tests.live_service import MODEL, LiveService
from tools.keys import bearer, entry, write_keys
from pathlib import Path

folder = Path(sys.argv[1])
keys = write_keys(folder / "keys.json", entry("acme"), entry("other"))
audit = {"tenant": "acme", "path": folder / "audit.jsonl"}
with LiveService(tenants={"keys": keys}, audit=audit) as live:
    for tenant in ("acme", "other"):
        body = {"model": MODEL, "prompt": f"of {tenant}", "max_tokens": 2}
        answer = httpx.post(f"{live.url}/v1/generate", json=body, headers=bearer(tenant))
        assert answer.status_code == 200, answer.text
"""


def wheel(folder: Path) -> Path:
    """A wheel of the page's files, as a build makes it."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    name = f"{project['name']}-{project['version']}"
    entries = [
        line
        for group, found in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in found.items()))
    ]
    file = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("audit.py", FILES["audit.py"])
        info = f"{name}.dist-info"
        archive.writestr(f"{info}/entry_points.txt", "\n".join(entries))
        head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        archive.writestr(f"{info}/METADATA", head)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder into which pip installed the page's package."""
    packages = tmp_path / "packages"
    command = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(packages)]
    subprocess.run([sys.executable, "-m", *command, str(wheel(tmp_path))], check=True, timeout=300)
    return packages


def test_the_page_is_thirty_lines_of_code() -> None:
    assert len([line for line in FILES["audit.py"].splitlines() if line.strip()]) <= 30


def test_the_example_writes_the_prompts_of_its_tenant(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert json.loads(line)["asked"]["prompt"] == "of acme"
