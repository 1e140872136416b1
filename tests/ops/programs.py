"""Debian's Prometheus, Alertmanager and Valkey, each in a folder of its own on the loopback.

`binary` is another one of the program than this machine's.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests.processes import free_port, running, served, wait_until
from tests.ops.compression import compressed
from tools.programs import environment, program

DEPLOY = Path(__file__).parents[2] / "deploy"
_TEMPLATES = b"/usr/share/prometheus/alertmanager"
PROGRAMS = ("prometheus", "prometheus-alertmanager", "valkey-server")


@dataclass(frozen=True)
class Program:
    """A program that runs and answers at `url`."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def valkey(folder: Path) -> Iterator[Program]:
    """A Valkey store that writes nothing to disk."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command, log = [program("valkey-server"), *options], folder / "valkey.log"
    with running(command, log, env=environment()) as process:
        yield Program(f"redis://127.0.0.1:{port}", process)


@contextmanager
def alertmanager(folder: Path, webhook: str, binary: Path | None = None) -> Iterator[Program]:
    """deploy/alertmanager with its webhooks on this machine, and without its waits."""
    config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
    for receiver in config["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = f"{webhook}/{receiver['name']}"
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    # Inhibition would hide the delivery of some alerts; deploy's tests check the file itself.
    config["inhibit_rules"] = []
    file, port = folder / "alertmanager.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    options = [
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    log = folder / "alertmanager.log"
    command = _alertmanager(folder, binary or Path(program("prometheus-alertmanager")))
    with running([*command, *options], log) as process:
        yield _ready(f"http://127.0.0.1:{port}", process)


@contextmanager
def prometheus(
    folder: Path, ops_port: int, exporters: str, alerts_to: str, binary: Path | None = None
) -> Iterator[Program]:
    """A Prometheus that scrapes the service every second, with deploy's rules compressed.

    `exporters` is the address of the other programs' page.
    """
    for file in sorted((DEPLOY / "prometheus").glob("*.yaml")):
        (folder / file.name).write_text(compressed(file.read_text(encoding="utf-8")))
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [
            str(folder / name) for name in ("recording.yaml", "alerts.yaml", "kubernetes.yaml")
        ],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alerts_to.partition("//")[2]]}]}]
        },
        "scrape_configs": [
            {
                "job_name": "inference",
                "static_configs": [{"targets": [f"127.0.0.1:{ops_port}"]}],
            },
            {"job_name": "exporters", "static_configs": [{"targets": [exporters]}]},
        ],
    }
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    options = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        # Interval at which alerts are sent again; the default of a minute would delay a cleared
        # one.
        "--rules.alert.resend-delay=2s",
    ]
    command = [binary or program("prometheus"), *options]
    with running(command, folder / "prometheus.log") as process:
        yield _ready(f"http://127.0.0.1:{port}", process)


def _alertmanager(folder: Path, binary: Path) -> list[str]:
    """The command of Debian's Alertmanager, also of a package that is only unpacked.

    The program reads its templates from an absolute path, where only an installed package has
    these. An unpacked one is copied, with `././...` in the place of that path, and run in the
    folder of its templates.
    """
    if Path(_TEMPLATES.decode()).is_dir():
        return [str(binary)]
    here = folder / "prometheus-alertmanager"
    here.write_bytes(binary.read_bytes().replace(_TEMPLATES, b"./" * (len(_TEMPLATES) // 2)))
    here.chmod(0o755)
    return ["env", f"--chdir={binary.parents[1]}/share/prometheus/alertmanager", str(here)]


def _ready(url: str, process: subprocess.Popen[bytes]) -> Program:
    wait_until(lambda: served(f"{url}/-/ready", process), 30, url)
    return Program(url, process)
