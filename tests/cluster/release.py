"""The chart as a release in a cluster, by Helm's own commands."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.control_plane import ControlPlane, environment
from tools.helm.binaries import helm
from tools.helm.chart import CHART

NAME = "llm"
NAMESPACE = "inference"
OBJECT = "llm-llm-service"
PACKAGES = {"git": "git"}


class Refusal(Exception):
    """Failure of a Helm command, with its output."""


class Release:
    """One release, by Helm 3 or 4; a server this old cannot take Helm 4's server-side apply."""

    def __init__(self, plane: ControlPlane, major: int) -> None:
        self._plane, self._major = plane, major

    def install(self, chart: Path, values: dict[str, Any], *options: str) -> str:
        """Install a chart; returns what Helm printed."""
        return self._helm("install", NAME, str(chart), *options, values=values)

    def upgrade(self, chart: Path, values: dict[str, Any], *options: str) -> str:
        """Upgrade to a chart."""
        return self._helm("upgrade", NAME, str(chart), *options, values=values)

    def rollback(self, revision: int) -> str:
        """Go back to a revision and wait for it."""
        return self._helm("rollback", NAME, str(revision), "--wait", "--timeout", "120s")

    def uninstall(self) -> str:
        """Remove the release."""
        return self._helm("uninstall", NAME, "--wait")

    def history(self) -> list[tuple[int, str, str]]:
        """Revisions with their chart and state."""
        entries = json.loads(self._helm("history", NAME, "--output", "json"))
        return [(e["revision"], e["chart"], e["status"]) for e in entries]

    def _helm(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        command = [str(helm(self._major)), *arguments, "--namespace", NAMESPACE]
        if arguments[0] in ("install", "upgrade", "rollback") and self._major == 4:
            command.append("--server-side=false")
        if values is not None:
            command += ["--values", "-"]
        run = subprocess.run(
            command,
            input=None if values is None else json.dumps(values),
            capture_output=True,
            text=True,
            check=False,
            env=environment(self._plane),
        )
        if run.returncode:
            said = [line for line in run.stderr.splitlines() if "symbolic link" not in line]
            raise Refusal("\n".join(said).strip())
        return run.stdout


def previous_chart(folder: Path) -> Path:
    """The chart as it was before its present version, from this repository's history.

    Raises RuntimeError where there is no history to take it from.
    """
    root = CHART.parent
    current = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
    log = _git(root, "log", "--format=%H", "--", "helm/Chart.yaml").decode().split()
    for commit in log:
        text = _git(root, "show", f"{commit}:helm/Chart.yaml")
        if yaml.safe_load(text)["version"] != current:
            # With deploy/, because links of the chart to rules and dashboards lead there.
            packed = _git(root, "archive", commit, "helm", "deploy")
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(folder, filter="data")
            return folder / "helm"
    raise RuntimeError(f"the history holds no version of the chart but {current}")


def _git(root: Path, *arguments: str) -> bytes:
    run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    if run.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {run.stderr.decode().strip()}")
    return run.stdout
