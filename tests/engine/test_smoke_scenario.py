"""The smoke scenario, shortened, against the real service: the load generator and its verdict."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema

from tests.served.server import Server

SCHEMA = Path(__file__).parents[2] / "loadtests" / "result.schema.json"


def test_smoke_passes_and_agrees_with_the_servers_counters(tiny: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests", "run", "--scenario", "smoke"]
    command += ["--host", tiny.url, "--metrics-url", f"{tiny.ops}/metrics", "--out", str(tmp_path)]
    command += ["--set", "load.warmup_s=1", "--set", "load.step_s=4"]
    # A machine that runs other tests is slower, which says nothing about the service.
    command += [
        "--set",
        "validity.send_lag_p50_ms=60000",
        "--set",
        "validity.send_lag_p99_ms=60000",
    ]
    command += ["--set", "validity.worker_cpu=1", "--set", "slo=null"]
    command += ["--set", "validity.little_error=1000", "--set", "drain_s=300"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr

    result = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    checks = {check["name"]: check for check in result["validity"]}
    for name in ("complete", "dropped", "server_requests", "server_completion_tokens"):
        assert checks[name]["passed"] is True, checks[name]
    assert set(result["overall"]["outcomes"]) == {"ok"}
    assert {workload["name"] for workload in result["workloads"]} == {"chat", "classify"}
    assert result["overall"]["completion_tokens"] > 0
    assert result["overall"]["throughput"]["items_per_s"] > 0
