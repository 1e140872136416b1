"""The chart, rendered."""

from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "helm"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "llm"
NAMESPACE = "inference"
KUBE_VERSIONS = ("1.29", "1.33", "1.37")
APIS = (
    "gateway.networking.k8s.io/v1",
    "inference.networking.k8s.io/v1",
    "keda.sh/v1alpha1",
    "leaderworkerset.x-k8s.io/v1",
    "monitoring.coreos.com/v1",
)
Manifest = dict[str, Any]


ASKED: dict[str, Any] = {
    "model": {"source": "package"},
    "config": {"tenants": {"allow_anonymous": True}},
}
"""What a trial asks for: the demo model, and service without keys."""


class Refused(Exception):
    """The chart did not render; the message is that of its schema or checks."""


def ci_values(name: str) -> dict[str, Any]:
    """The values of a file in helm/ci, by the name before `-values.yaml`."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    """Trees of values, the later ones over the earlier ones, as Helm merges files."""
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = result.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                value = merged(old, value)
            result[key] = value
    return result


def rendered(values: dict[str, Any], asked: dict[str, Any] = ASKED) -> dict[str, str]:
    """The chart's files by name, with every optional API available; raises Refused.

    Beside the values it is given what is `asked`, where these say nothing else.
    """
    values = merged({"assumeApis": list(APIS)}, asked, values)
    try:
        files = _loaded().render(values, name=RELEASE, namespace=NAMESPACE)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from None
    return {name.removeprefix("llm-service/templates/"): text for name, text in files.items()}


def manifests(values: dict[str, Any]) -> list[Manifest]:
    """Every object that the chart makes of these values; raises Refused."""
    files = rendered(values)
    return [
        document
        for name, text in files.items()
        if name != "NOTES.txt"
        for document in documents(text)
    ]


def notes(values: dict[str, Any]) -> str:
    """Notes that Helm prints after an install."""
    return rendered(values)["NOTES.txt"]


def documents(text: str) -> list[Manifest]:
    """The objects in a stream of YAML."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def one(objects: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """The only object of a kind whose name has this ending."""
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]
    return found


def pod_templates(objects: list[Manifest]) -> list[Manifest]:
    """The pod templates of all workloads."""
    found: list[Manifest] = []
    for manifest in objects:
        spec = manifest.get("spec", {})
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            found.append(spec["template"])
        elif manifest["kind"] == "LeaderWorkerSet":
            group = spec["leaderWorkerTemplate"]
            found += [group["leaderTemplate"], group["workerTemplate"]]
        elif manifest["kind"] == "Pod":
            found.append({"metadata": manifest["metadata"], "spec": spec})
    return found


def server(objects: list[Manifest]) -> Manifest:
    """The container that runs the service."""
    (found,) = [
        container
        for template in pod_templates(objects)
        for container in template["spec"]["containers"]
        if container["name"] == "server"
    ]
    return dict(found)


@cache
def _loaded() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)
