"""The load scenario `canary` on the fake engine: it passes where releases end as they must."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.adapters.manifest_yaml import load_manifest
from tests.live_service import LiveService
from tests.plugins.rollouts.versions import STEPS, Folders

FAST = {
    "load.step_s": "6",
    "slo": "null",
    "validity.send_lag_p50_ms": "60000",
    "validity.send_lag_p99_ms": "60000",
    "validity.worker_cpu": "50",
    "validity.little_error": "1000",
    "drain_s": "240",
}
"""A short run, which says nothing of the machine."""


def plan(folders: Folders, planned: str, **more: Any) -> dict[str, Any]:
    source = folders.root / planned
    digest = load_manifest(source).digest
    return {"source": str(source), "digest": digest, "sticky": "request", "canary": STEPS} | more


@pytest.mark.parametrize(("bad", "code"), [("other", 0), ("equal", 1)])
def test_the_run_passes_only_if_the_bad_version_is_rolled_back(
    folders: Folders, tmp_path: Path, bad: str, code: int
) -> None:
    old = str(folders.root / "old")
    shadow = {"requests": 20 if code else 1000, "share": 1.0}
    plans = {"good": plan(folders, "equal"), "bad": plan(folders, bad, shadow=shadow)}
    sections: dict[str, Any] = {
        "adapters": [{"source": old, "name": name} for name in plans],
        "adapter_cache": {"path": folders.root / "cache"},
        "releases": {"path": tmp_path / "releases", "plans": plans},
    }
    command = [sys.executable, "-m", "loadtests", "run", "--scenario", "canary"]
    for field, value in FAST.items():
        command += ["--set", f"{field}={value}"]
    with LiveService(model_path=folders.base, **sections) as live:
        command += ["--host", live.url, "--metrics-url", f"{live.ops_url}/metrics"]
        command += ["--model", "fake", "--out", str(tmp_path / "out")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (ended.returncode, result["overall"]["outcomes"].keys()) == (code, {"ok"}), ended.stdout
    assert result["releases"]["good"] == "full"
    assert result["releases"]["bad"] == ("full" if code else "rolled_back")
    reasons = ["the release of bad is full, expected rolled_back"] if code else []
    assert result["verdict"]["reasons"] == reasons
