"""The service on Ray Serve, as deploy/ray has it, on an engine that makes up its tokens.

    make fleet-ray

Ray starts on this machine, and its replicas the service. All routes, a hang-up, more replicas under
load, a replica that is killed, and the end.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from loadtests.environments import environment
from loadtests.processes import free_port, running, served, wait_until
from tests.fleet.checks import CHECKS, Fleet
from tests.fleet.crowd import OK, SILENT, crowd
from tests.fleet.routers import MODEL, Running
from tests.served.configuration import SMOLLM2
from tests.served.tiny import build_tiny_model

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]

_START_SECONDS = 300
_SECONDS = 120
_SLOTS = 8
_BODY = {"model": MODEL, "max_tokens": 400, "ignore_eos": True}
_THROUGH = (
    *("chat", "stream", "completion", "response", "message", "tokens (`/tokenize`)"),
    *("`/v1/generate`", "`/v1/classify` with labels", "`/v1/decisions`"),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ray")
    build_tiny_model(SMOLLM2, folder / "model")
    config = {
        "model": {"name": MODEL, "path": str(folder / "model")},
        "engine": {"max_num_seqs": _SLOTS},
        "admission": {"target_token_ms": None},
        "drain": {"lame_duck_s": 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    port, programs = free_port(), environment(Path(__file__).parent / "ray.txt")
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(_application(folder, port)))
    ray = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    log, address = folder / "ray.log", f"http://127.0.0.1:{port}"
    command: list[str | Path] = [programs / "serve", "run", "--app-dir", ".", str(file)]
    with running(command, log, env=ray) as process:
        models = f"{address}/v1/models"
        # Ray answers by itself with 404 until the application is there.
        wait_until(
            lambda: served(models, process, log) and httpx.get(models).status_code == 200,
            _START_SECONDS,
            "the application",
        )
        yield address
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not _services(), _SECONDS, "the end of the services")
        process.wait(_SECONDS)


def _application(folder: Path, port: int) -> Any:
    """The configuration of deploy/ray for this machine."""
    file = yaml.safe_load(Path("deploy/ray/serve.yaml").read_text())
    file["http_options"] = {"host": "127.0.0.1", "port": port}
    (application,) = file["applications"]
    application["args"] = {
        "config": str(folder / "config.yaml"),
        "command": [sys.executable, "-m", "tools.mock_engine", "--rate=400", "service.cli.main"],
    }
    (service,) = application["deployments"]
    service["ray_actor_options"] = {"num_cpus": 0}
    service["autoscaling_config"] |= {"max_replicas": 2, "upscale_delay_s": 2}
    service["autoscaling_config"] |= {"metrics_interval_s": 1, "look_back_period_s": 2}
    return file


def _services() -> dict[int, str]:
    """The admin address of every service that Ray runs and is ready, by its process."""
    found = {}
    for process in psutil.process_iter():
        try:
            port = process.environ().get("LLM_SERVICE_HTTP__OPS_PORT")
            if port and "serve" in process.cmdline() and "--config" in process.cmdline():
                admin = f"http://127.0.0.1:{port}"
                if httpx.get(f"{admin}/readyz").status_code == 200:
                    found[process.pid] = admin
        except (psutil.Error, httpx.TransportError):
            continue
    return found


def _value(admin: str, series: str) -> float:
    lines = httpx.get(f"{admin}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{series}{{"))


@pytest.mark.parametrize("check", _THROUGH)
def test_routes(url: str, check: str) -> None:
    CHECKS[check](Fleet(Running(url, lambda: 0.0), ()))


def test_a_hang_up_ends_the_request(url: str) -> None:
    (admin,) = _services().values()
    body = _BODY | {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body | {"stream": True}) as answer:
        lines = answer.iter_lines()  # without a name its end would close the connection
        next(lines)
        wait_until(lambda: _value(admin, "inference_requests_in_flight") == 1, 5, "its beginning")
    wait_until(lambda: not _value(admin, "inference_requests_in_flight"), 5, "its end")


def test_replicas_follow_the_load_and_a_killed_one_is_replaced(url: str) -> None:
    with crowd(url, 2 * _SLOTS, _BODY) as met:
        wait_until(lambda: len(_services()) == 2, _START_SECONDS, "a second replica")
        first, _ = _services()
        for process in (*psutil.Process(first).children(recursive=True), psutil.Process(first)):
            process.kill()
        wait_until(lambda: first not in _services(), 30, "the death")
        wait_until(lambda: len(_services()) == 2, _START_SECONDS, "another in its place")
        began = met.now
        time.sleep(5)
    print(dict(met.outcomes()), met.details(SILENT))
    assert not met.outcomes()[SILENT]
    assert set(met.outcomes(began)) == {OK}
