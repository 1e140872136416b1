"""The check of objects finds a broken field in every kind that the chart makes or a page shows."""

from copy import deepcopy
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks
from tests.helm.kubernetes import check
from tools.helm.chart import CI, Manifest, ci_values, documents, manifests
from tools.helm.crds import FOLDER, PROJECTS, schema_file

VERSION = "1.37"
RAY = DOCS.parent / "deploy" / "ray" / "rayservice.yaml"


def _made() -> dict[str, Manifest]:
    """An object of each kind, out of the files of helm/ci, the pages and deploy/ray."""
    names = [file.name.removesuffix("-values.yaml") for file in CI]
    values = [ci_values(name) | {"assumeImageVolumes": True} for name in names]
    values.append({"tenantKeys": {"files": {"keys.yaml": "tenants: []"}}})
    shown = [block.text for block in blocks(DOCS / "howto" / "proxies.md")]
    shown = [text for text in shown if text.startswith("apiVersion:")]
    objects = [made for each in values for made in manifests(each)]
    objects += [made for text in [*shown, RAY.read_text("utf-8")] for made in documents(text)]
    return {made["kind"]: made for made in objects}


MADE = _made()


def test_no_schema_is_kept_that_checks_nothing() -> None:
    used = {schema_file(made["apiVersion"], made["kind"]) for made in MADE.values()}
    kept = set(FOLDER.glob("*.json"))
    assert kept <= used
    assert len(kept) == sum(len(project.files) for project in PROJECTS)


@pytest.mark.parametrize("kind", MADE)
def test_an_unknown_field_is_found(kind: str) -> None:
    check(MADE[kind], VERSION)
    broken = deepcopy(MADE[kind])
    broken.get("spec", broken)["replicaz"] = 1
    with pytest.raises(Exception, match="replicaz"):
        check(broken, VERSION)


BROKEN: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("HTTPRoute", ("spec", "rules", 0, "timeouts", "requests"), "0s"),
    ("HTTPRoute", ("spec", "rules", 0, "timeouts", "request"), "soon"),
    ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "path", "type"), "Suffix"),
    ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "name"), ""),
    ("HTTPRoute", ("spec", "rules", 1, "backendRefs", 0, "port"), 70_000),
    ("HTTPRoute", ("spec", "parentRefs", 0, "namespace"), "Upper"),
    ("HTTPRoute", ("spec", "hostnames", 0), "llm example.com"),
    ("HTTPRoute", ("metadata", "lables"), {}),
    ("Gateway", ("spec", "listeners", 0, "tls", "certificateRef"), {"name": "llm-tls"}),
    ("Gateway", ("spec", "listeners", 0, "port"), "443"),
    ("InferencePool", ("spec", "endpointPickerRef", "failuremode"), "FailOpen"),
    ("InferencePool", ("spec", "targetPorts", 0, "number"), "8000"),
    ("InferencePool", ("spec", "endpointPickerRef", "failureMode"), "FailSoft"),
    ("InferencePool", ("spec", "selector", "matchLabels"), {}),
    ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "Size"), 2),
    ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "size"), "2"),
    ("LeaderWorkerSet", ("spec", "startupPolicy"), "Sometimes"),
    ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "workerTemplate", "spec", "hostPid"), 1),
    ("RayService", ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "min"), 1),
    ("RayService", ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "maxReplicas"), 2**31),
    ("RayService", ("spec", "rayClusterConfig", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
    ("StatefulSet", ("spec", "volumeClaimTemplates", 0, "spec", "accessModes"), "ReadWriteOnce"),
    ("Ingress", ("spec", "rules", 0, "http", "paths", 0, "pathType"), None),
    ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), "8"),
    ("ScaledObject", ("spec", "fallback", "failures"), 3),
    ("ScaledObject", ("spec", "fallback", "behavior"), "current"),
    ("ScaledObject", ("spec", "triggers", 0, "metadata"), None),
    ("ScaledObject", ("spec", "triggers", 0, "metadata", "threshold"), 5),
    ("ServiceMonitor", ("spec", "endpoints", 0, "intervall"), "30s"),
    ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "often"),
    ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "severity"), "page"),
    ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "soon"),
    ("GCPBackendPolicy", ("spec", "default", "timeoutsec"), 610),
    ("GCPBackendPolicy", ("spec", "default", "timeoutSec"), "610"),
    ("HealthCheckPolicy", ("spec", "default", "config", "httpHealthCheck", "path"), "/health"),
    ("HealthCheckPolicy", ("spec", "default", "config", "type"), "http"),
]


def test_each_schema_of_another_project_finds_two_faults() -> None:
    kinds = [kind for kind, _, _ in BROKEN]
    ours = [kind for kind, made in MADE.items() if _has_definition(made)]
    assert {kind for kind in ours if kinds.count(kind) < 2} == set()


def _has_definition(made: Manifest) -> bool:
    return schema_file(made["apiVersion"], made["kind"]).is_file()


@pytest.mark.parametrize(("kind", "path", "value"), BROKEN)
def test_a_broken_value_is_found(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    broken = deepcopy(MADE[kind])
    part: Any = broken
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(Exception, match=str(path[-2] if isinstance(path[-1], int) else path[-1])):
        check(broken, VERSION)
