"""Starts that end before the service is ready."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtests.processes import free_port, wait_until
from service.model.digest import base_model_digest
from tools.served.configuration import tiny_config
from tools.served.server import named, started_server

SECONDS = 300


def begun(folder: Path, config: dict[str, object]) -> "subprocess.Popen[bytes]":
    """A server that has just been started."""
    config = config | {"http": {"port": free_port(), "ops_port": free_port()}}
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "service.commands.cli", "serve", "--config", str(file)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_and_all_that_it_has_begun(
    tiny_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = begun(tmp_path, tiny_config(tiny_folder))
    log = tmp_path / "log"
    try:
        server = psutil.Process(process.pid)
        wait_until(
            lambda: bool(named("EngineCore", server.children(recursive=True))),
            SECONDS,
            "the engine's process",
            every=0.05,
        )
        family = server.children(recursive=True)
        process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number, log.read_text()[-3000:]
    finally:
        process.kill()
    assert "ready: tiny" not in log.read_text()
    assert "Traceback" not in log.read_text()
    assert psutil.wait_procs(family, SECONDS)[1] == []


def test_a_killed_service_leaves_no_process(tiny_folder: Path, tmp_path: Path) -> None:
    with started_server(tmp_path, tiny_config(tiny_folder)) as server:
        family = server.family()
        assert named("Worker", family)
        server.process.kill()
        assert psutil.wait_procs(family, SECONDS)[1] == []


def test_a_model_of_another_digest_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_folder)
    config["model"] = {**config["model"], "digest": f"sha256:{'0' * 64}"}
    process = begun(tmp_path, config)
    assert process.wait(SECONDS) == 2
    digest = base_model_digest(tiny_folder)
    assert (
        f"error: model.digest: must be that of {tiny_folder}, {digest}"
        in (tmp_path / "log").read_text()
    )
