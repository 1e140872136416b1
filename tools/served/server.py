"""The service as its users run it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.processes import free_port, served, wait_until

START_SECONDS = 600
_ASK_SECONDS = 600

PATIENT: dict[str, Any] = {
    "gate": {"max_wait_ms": 600_000, "default_timeout_ms": 600_000, "target_token_ms": None},
    "watchdog": {"stall_s": 600},
    "golden_timeout_s": 600,
}
"""Settings of a service on a machine that is busy with other things, which may take minutes for
what usually takes seconds: for every test that does not look at refusals, deadlines or stalls."""


@dataclass(frozen=True)
class Server:
    """A service that is ready; `model` is empty where encoders alone are served."""

    url: str
    ops: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """POST a JSON body to the public port."""
        return httpx.post(self.url + path, json=body, timeout=_ASK_SECONDS, **options)

    def family(self) -> list[psutil.Process]:
        """The processes that the server started, directly or not."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def engine(self) -> psutil.Process:
        """The engine's process."""
        (engine,) = named("EngineCore", self.family())
        return engine

    def metric(self, name: str) -> float:
        """The sum of a series over its labels; 0 if there is none."""
        lines = httpx.get(f"{self.ops}/metrics", timeout=60).text.splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if _is_series(line, name)]
        return sum(values)


def named(word: str, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Processes whose command line holds a word; one that ends meanwhile is left out."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextmanager
def running_server(folder: Path, config: dict[str, Any]) -> Iterator[Server]:
    """A server that is stopped by SIGTERM and must exit with 0."""
    with started_server(folder, config) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log.read_text()[-4000:]


@contextmanager
def started_server(folder: Path, config: dict[str, Any], *program: str) -> Iterator[Server]:
    """Start `llm-service serve` on free ports, wait until ready; no process is left afterwards.

    `program` is another module to start, and its arguments before `serve`.
    """
    port, ops = free_port(), free_port()
    config = config | {"http": {"port": port, "ops_port": ops}}
    config.setdefault("drain", {"lame_duck_s": 0})
    file, log = folder / "config.yaml", folder / "server.log"
    file.write_text(json.dumps(config))
    module = program or ("service.commands.cli",)
    command = [sys.executable, "-m", *module, "serve", "--config", str(file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_SERVICE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    server = Server(
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{ops}",
        config["model"]["name"] if "model" in config else "",
        process,
        log,
    )
    try:
        url = f"{server.ops}/readyz"
        wait_until(lambda: served(url, process, log), START_SECONDS, "readiness")
        yield server
    finally:
        family = [psutil.Process(process.pid), *server.family()] if process.poll() is None else []
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(60)


def _is_series(line: str, name: str) -> bool:
    return line.startswith((f"{name}{{", f"{name} "))
