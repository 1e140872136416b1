"""Schemas of other projects' kinds, from the custom resource definitions that they publish.

    git clone https://github.com/kubernetes-sigs/lws CLONES/lws     # and so on for each of PROJECTS
    python -m tools.helm.crds CLONES

writes those under tests/helm/crds anew, out of the commits that PROJECTS names.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.command_line import command_line
from tools.markdown_pages import page_with

FOLDER = Path(__file__).parents[2] / "tests" / "helm" / "crds"
README = FOLDER / "README.md"
Schema = dict[str, Any]


@dataclass(frozen=True)
class Project:
    """A release on GitHub, and its definitions: the files in `folder` with the version of each."""

    repository: str
    release: str
    commit: str
    folder: str
    files: dict[str, str]

    @property
    def name(self) -> str:
        """The repository's name without its owner, which is that of its clone."""
        return self.repository.partition("/")[2]


PROJECTS = (
    Project(
        "kubernetes-sigs/gateway-api",
        "v1.6.1",
        "8bb74df00e56ec8f944d48c25e6c1c9c2f6848e3",
        "config/crd/standard",
        {
            "gateway.networking.k8s.io_gateways.yaml": "v1",
            "gateway.networking.k8s.io_httproutes.yaml": "v1",
        },
    ),
    Project(
        "kubernetes-sigs/gateway-api-inference-extension",
        "v1.6.0",
        "992e5c292afb248801ce8d9234eb5b9d28eea231",
        "config/crd/bases",
        {"inference.networking.k8s.io_inferencepools.yaml": "v1"},
    ),
    Project(
        "kubernetes-sigs/lws",
        "v0.10.0",
        "2161f38ff333f9e24d3c44adef7cd5d9787cac00",
        "config/crd/bases",
        {"leaderworkerset.x-k8s.io_leaderworkersets.yaml": "v1"},
    ),
    Project(
        "kedacore/keda",
        "v2.20.2",
        "68a5b5028f35b22d50597c69819ab32c4e92f21a",
        "config/crd/bases",
        {"keda.sh_scaledobjects.yaml": "v1alpha1"},
    ),
    Project(
        "prometheus-operator/prometheus-operator",
        "v0.93.0",
        "f8fafd475f3d132e239432ae6172de60a6cb6516",
        "example/prometheus-operator-crd",
        {
            "monitoring.coreos.com_prometheusrules.yaml": "v1",
            "monitoring.coreos.com_servicemonitors.yaml": "v1",
        },
    ),
    Project(
        "ray-project/kuberay",
        "v1.7.0",
        "59d663aeec13760646da3db9c1cf8cfe883e30b7",
        "ray-operator/config/crd/bases",
        {"ray.io_rayservices.yaml": "v1"},
    ),
    Project(
        "GoogleCloudPlatform/gke-gateway-api",
        "v1.4.0",
        "a663dec06e3fa9e07fd252480b1f55043dd1863a",
        "config/crd",
        {
            "networking.gke.io_gcpbackendpolicies.yaml": "v1",
            "networking.gke.io_healthcheckpolicies.yaml": "v1",
        },
    ),
)


def schema_file(api_version: str, kind: str) -> Path:
    """The file of a kind's schema, by what an object says of itself."""
    group, _, version = api_version.partition("/")
    return FOLDER / f"{group}_{kind}_{version}.json"


def reduced(schema: Any) -> Any:
    """A definition's schema without descriptions."""
    if isinstance(schema, list):
        return [reduced(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # A property may have the name of a keyword.
    return {
        key: {name: reduced(each) for name, each in value.items()}
        if key == "properties"
        else reduced(value)
        for key, value in schema.items()
        if key != "description"
    }


def schema_of(definition: Schema, version: str) -> tuple[Path, Schema]:
    """The file and the reduced schema of a definition's version; ValueError when it has none.

    `status`, which controllers write, is left out.
    """
    spec = definition["spec"]
    kind = spec["names"]["kind"]
    for each in spec["versions"]:
        if each["name"] == version:
            schema = reduced(each["schema"]["openAPIV3Schema"])
            schema["properties"].pop("status", None)
            return schema_file(f"{spec['group']}/{version}", kind), schema
    raise ValueError(f"{kind} has no version {version}")


def json_schema(api_version: str, kind: str) -> Schema:
    """What an API server takes as an object of this kind, but for fields that it would drop.

    The object's metadata is not part of it; FileNotFoundError for a kind that is not here.
    """
    schema = _closed(json.loads(schema_file(api_version, kind).read_text(encoding="utf-8")))
    schema["properties"]["metadata"] = {}
    return schema


def _closed(schema: Schema) -> Schema:
    """A structural schema as a JSON Schema in which a field that is not listed is an error.

    Null is a value where the schema says so, and what has a default may be missing.
    """
    closed = {key: value for key, value in schema.items() if not key.startswith("x-")}
    fields: dict[str, Schema] = schema.get("properties", {})
    if fields:
        closed["properties"] = {name: _closed(each) for name, each in fields.items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            closed[key] = _closed(schema[key])
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if "required" in schema:
        required = schema["required"]
        closed["required"] = [name for name in required if "default" not in fields[name]]
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    if schema.get("nullable"):
        closed["type"] = [schema["type"], "null"]
    return closed


def write(clones: Path) -> None:
    """Write the schemas of all projects, out of their clones in a folder."""
    for project in PROJECTS:
        for file, version in project.files.items():
            stored = f"{project.commit}:{project.folder}/{file}"
            command = ["git", "-C", str(clones / project.name), "show", stored]
            text = subprocess.run(command, check=True, capture_output=True).stdout
            path, schema = schema_of(yaml.load(text, yaml.CSafeLoader), version)
            path.write_text(json.dumps(schema, separators=(",", ":")) + "\n", encoding="utf-8")


def readme() -> str:
    """The folder's README.md with the current table of projects."""
    lines = ["| project | release | commit | definitions |", "| --- | --- | --- | --- |"]
    for each in PROJECTS:
        files = ", ".join(f"`{file}` {version}" for file, version in each.files.items())
        project = f"[{each.name}](https://github.com/{each.repository})"
        lines.append(f"| {project} | {each.release} | `{each.commit[:12]}` | {files} |")
    return page_with(README, "projects", "\n".join(lines))


if __name__ == "__main__":
    parser = command_line("tools.helm.crds", __doc__)
    parser.add_argument("clones", type=Path, help="folder with a clone of each project, by name")
    write(parser.parse_args().clones)
    README.write_text(readme(), encoding="utf-8")
