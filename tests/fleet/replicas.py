"""Replicas that can be drained, killed and started again on the same ports."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.processes import free_port, served, wait_until
from tests.served.server import START_SECONDS, Server, begun_server


class Replica:
    """A replica behind a router; `program` runs it, if another than the service's own."""

    def __init__(self, folder: Path, config: Mapping[str, Any], program: Sequence[str]) -> None:
        folder.mkdir()
        ports = {"port": free_port(), "ops_port": free_port()}
        http = {"behind_router": True} | config.get("http", {}) | ports
        drain = {"lame_duck_s": 4, "budget_s": 20}
        self._config = {"drain": drain, **config, "http": http}
        self._folder, self._program = folder, program
        self.url = f"http://127.0.0.1:{http['port']}"
        self.events = ""
        """Where it publishes the events of its KV cache, if it does."""
        self.server: Server | None = None

    def publish_events(self) -> None:
        """Let it publish the events of its KV cache, from its next start on."""
        port = free_port()
        self.events = f"tcp://127.0.0.1:{port}"
        events = {"enable_kv_cache_events": True, "publisher": "zmq", "topic": "kv-events"}
        events["endpoint"] = f"tcp://*:{port}"
        self._config["engine"] = self._config["engine"] | {"kv_events_config": events}

    def begin(self) -> None:
        """Start it; `wait` waits until it is ready."""
        self.server = begun_server(self._folder, self._config, *self._program)

    def wait(self) -> None:
        """Wait until it is ready."""
        server = self._running
        url = f"{server.ops}/readyz"
        wait_until(lambda: served(url, server.process, server.log), START_SECONDS, "readiness")

    def kill(self) -> None:
        """End all of its processes at once, as a machine that loses power."""
        server, self.server = self._running, None
        if server.process.poll() is None:
            for process in (psutil.Process(server.process.pid), *server.family()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        server.process.wait(START_SECONDS)

    def drain(self) -> None:
        """Begin to drain it, as a supervisor does by SIGTERM."""
        self._running.process.send_signal(signal.SIGTERM)

    def drained(self) -> None:
        """Wait until it has ended in order."""
        server, self.server = self._running, None
        assert server.process.wait(START_SECONDS) == 0, server.log.read_text()[-2000:]

    def revive(self) -> None:
        """Start it again unless it runs, and wait until it is ready."""
        if self.server is not None and self.server.process.poll() is not None:
            self.server = None
        if self.server is None:
            self.begin()
        self.wait()

    def stop(self) -> None:
        """End it, if it runs."""
        if self.server is not None:
            self.kill()

    @property
    def ops(self) -> str:
        """The address of its admin port."""
        return self._running.ops

    def value(self, series: str) -> float:
        """The sum of a series of its metrics."""
        return self._running.metric(series)

    def cancelled(self) -> float:
        """The requests whose clients went away."""
        lines = httpx.get(f"{self._running.ops}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith("inference_requests_total{")]
        return sum(float(line.split()[-1]) for line in found if '"cancelled"' in line)

    @property
    def _running(self) -> Server:
        assert self.server is not None, "the replica does not run"
        return self.server


@contextmanager
def replicas(
    folder: Path,
    config: Mapping[str, Any],
    number: int = 2,
    program: Sequence[str] = (),
    *,
    events: bool = False,
) -> Iterator[list[Replica]]:
    """So many replicas, ready; none of them runs after the block."""
    with ExitStack() as stack:
        made = [Replica(folder / f"replica{index}", config, program) for index in range(number)]
        for each in made:
            stack.callback(each.stop)
            if events:
                each.publish_events()
            each.begin()
        for each in made:
            each.wait()
        yield made
