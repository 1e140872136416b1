"""Renderings of the smallest and the largest file of helm/ci, kept to be read in a review.

    python -m tools.helm.golden         # `make generate` runs it

writes those under tests/helm/golden anew. Scripts and dashboards are reduced to their first line,
rules to their groups.
"""

import subprocess
from pathlib import Path

import yaml

from tools.command_line import command_line
from tools.helm.binaries import helm
from tools.helm.chart import APIS, CHART, CI, NAMESPACE, RELEASE, Manifest, documents

FOLDER = CHART.parent / "tests" / "helm" / "golden"
KEPT = [file for file in CI if file.name in ("cpu-minimal-values.yaml", "two-nodes-values.yaml")]
VERSION = "1.37"


def template(major: int, file: Path, version: str = VERSION) -> list[Manifest]:
    """The objects that a Helm makes of a values file; CalledProcessError when it refuses."""
    command = [str(helm(major)), "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    command += ["--values", str(file), "--kube-version", version, "--api-versions", ",".join(APIS)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return documents(run.stdout)


def golden_text(objects: list[Manifest]) -> str:
    """The objects as YAML, sorted, without texts that other files hold."""
    for manifest in objects:
        data = manifest.get("data", {})
        for name, content in data.items():
            if name.endswith((".py", ".json")):
                data[name] = content.splitlines()[0]
        if manifest["kind"] == "PrometheusRule":
            manifest["spec"]["groups"] = [group["name"] for group in manifest["spec"]["groups"]]
    ordered = sorted(objects, key=lambda o: (o["kind"], o["metadata"]["name"]))
    return yaml.safe_dump_all(ordered, sort_keys=True, width=200)


def golden_file(file: Path) -> Path:
    """File in which the rendering of a values file is kept."""
    return FOLDER / file.name.replace("-values.yaml", ".yaml")


if __name__ == "__main__":
    command_line("tools.helm.golden", __doc__).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for values_file in KEPT:
        golden_file(values_file).write_text(golden_text(template(4, values_file)), encoding="utf-8")
