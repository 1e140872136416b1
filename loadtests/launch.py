"""Start Locust on our locustfile, in a process of its own."""

import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


@dataclass(frozen=True, slots=True)
class Launch:
    """One run: the arguments of `python -m loadtests run`."""

    scenario: str
    host: str
    out: Path
    slo: str = ""
    api: str = "native"
    model: str = ""
    metrics_url: str = ""
    overrides: tuple[str, ...] = field(default=())
    workers: int = 1
    disturb: str = ""
    stop_when_doomed: bool = False
    progress: bool = True
    said: str = ""

    def arguments(self) -> list[str]:
        """Locust's command line."""
        arguments = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless"]
        # Locust prints its own tables unless it writes them to a file.
        arguments += ["--only-summary", "--loglevel", "WARNING"]
        arguments += ["--json-file", str(self.out / "locust")]
        arguments += ["--host", self.host, "--out", str(self.out), "--scenario", self.scenario]
        for name, value in (
            ("--slo", self.slo),
            ("--api", self.api),
            ("--model", self.model),
            ("--metrics-url", self.metrics_url),
            ("--disturb", self.disturb),
            ("--said", self.said or said()),
        ):
            # One word, because a value may begin with a dash.
            arguments += [f"{name}={value}"] if value else []
        for override in self.overrides:
            arguments += [f"--set={override}"]
        arguments += ["--stop-when-doomed"] if self.stop_when_doomed else []
        arguments += ["--progress"] if self.progress else []
        if self.workers > 1:
            # A port of its own, so that two runs on one machine do not meet.
            port = str(free_port())
            arguments += ["--processes", str(self.workers), "--master-bind-host", "127.0.0.1"]
            arguments += ["--master-bind-port", port, "--master-port", port]
        return arguments

    def run(self, *, quiet: bool = False) -> int:
        """Run to the end and return the exit code; `quiet` drops the summary."""
        self.out.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.arguments(),
            env=os.environ | {"PYTHONPATH": _path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal told Locust as well, and it writes what it has.
            return process.wait()


def said() -> str:
    """The command as it was typed, to be named in the results."""
    return "python -m loadtests " + shlex.join(sys.argv[1:])


def free_port() -> int:
    """A port of the loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _path() -> str:
    """The import path with the package's parent first."""
    parent = str(_LOCUSTFILE.parent.parent)
    return os.pathsep.join(filter(None, [parent, os.environ.get("PYTHONPATH", "")]))
