"""The service as its users run it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.processes import free_port, served, wait_until
from service.settings import section as platform
from service.vllm.environment import is_eager
from tests.served.configuration import with_client
from tests.served.forked import Forking

START_SECONDS = 600
_ASK_SECONDS = 600

PATIENT: dict[str, Any] = {
    "admission": {"max_wait_ms": 600_000, "default_timeout_ms": 600_000, "target_token_ms": None},
    "watchdog": {"stall_s": 600},
    "golden_timeout_s": 600,
}
"""Settings of a service on a machine that is busy with other things, which may take minutes for
what usually takes seconds: for every test that does not look at refusals, deadlines or stalls."""

_forking: Forking | None = None


@dataclass(frozen=True)
class Server:
    """A service that runs; `model` is empty where encoders alone are served."""

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
        lines = httpx.get(f"{self.ops}/metrics", timeout=_ASK_SECONDS).text.splitlines()
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
def running_server(
    folder: Path, config: dict[str, Any], *, afresh: bool = False
) -> Iterator[Server]:
    """A server that is stopped by SIGTERM and must exit with 0."""
    with started_server(folder, config, afresh=afresh) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(START_SECONDS) == 0, server.log.read_text()[-4000:]


@contextmanager
def started_server(
    folder: Path, config: dict[str, Any], *program: str, afresh: bool = False
) -> Iterator[Server]:
    """A server that is ready, on free ports; no process of it is left afterwards.

    It is `llm-service serve`: a program that begins `afresh`, or within `forked_servers` a fork.
    `program` is another module to run, and its arguments before `serve`.
    """
    server = begun_server(folder, config, *program, afresh=afresh)
    process, url = server.process, f"{server.ops}/readyz"
    try:
        wait_until(lambda: served(url, process, server.log), START_SECONDS, "readiness")
        yield server
    finally:
        family = [psutil.Process(process.pid), *server.family()] if process.poll() is None else []
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(START_SECONDS)


def begun_server(
    folder: Path, config: dict[str, Any], *program: str, afresh: bool = False
) -> Server:
    """A server that has just begun, as `started_server` has it."""
    http = {"port": free_port(), "ops_port": free_port()} | config.get("http", {})
    config = with_client(config) | {"http": http}
    config.setdefault("drain", {"lame_duck_s": 0})
    file, log = folder / "config.yaml", folder / "server.log"
    file.write_text(json.dumps(config))
    command = [*(program or ("service.cli.main",)), "serve", "--config", str(file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_SERVICE_")}
    forks = _forking if _is_eager(config) and not afresh else None
    begin = forks.begin if forks else _begin
    return Server(
        f"http://127.0.0.1:{http['port']}",
        f"http://127.0.0.1:{http['ops_port']}",
        config["model"]["name"] if "model" in config else "",
        begin(command, log, environment),
        log,
    )


def ran(log: Path, *command: str, **variables: str) -> int:
    """The exit code of a module that runs to its end as a program, with its output in the log.

    Within `forked_servers` it is a fork, too. `variables` are added to the environment.
    """
    begin = _forking.begin if _forking else _begin
    return begin(command, log, {**os.environ, **variables}).wait(START_SECONDS)


@contextmanager
def forked_servers(folder: Path) -> Iterator[None]:
    """Within the block, servers are forked from one process where they can be (CPU build)."""
    global _forking
    _forking = Forking(folder) if platform.installed() is platform.CPU else None
    try:
        yield
    finally:
        if _forking:
            _forking.end()
        _forking = None


def _is_eager(config: Mapping[str, Any]) -> bool:
    """True for torch's compiler off, as the process has it that servers are forked from."""
    engines = [config] if "model" in config else config["encoders"]
    return all(is_eager(each.get("engine", {})) for each in engines)


def _begin(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Begin a module and its arguments as a program, with its output in the log."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=environment
        )


def _is_series(line: str, name: str) -> bool:
    return line.startswith((f"{name}{{", f"{name} "))
