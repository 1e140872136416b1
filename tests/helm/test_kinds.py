"""The check of objects finds a broken field in every kind that the chart makes."""

from copy import deepcopy
from typing import Any

import pytest

from tests.helm.kubernetes import check
from tools.helm.chart import CI, Manifest, ci_values, manifests

VERSION = "1.37"


def _made() -> dict[str, Manifest]:
    """An object of each kind out of the files of helm/ci."""
    names = [file.name.removesuffix("-values.yaml") for file in CI]
    values = [ci_values(name) | {"assumeImageVolumes": True} for name in names]
    values.append({"tenantKeys": {"files": {"keys.yaml": "tenants: []"}}})
    return {made["kind"]: made for each in values for made in manifests(each)}


MADE = _made()


@pytest.mark.parametrize("kind", MADE)
def test_an_unknown_field_is_found(kind: str) -> None:
    check(MADE[kind], VERSION)
    broken = deepcopy(MADE[kind])
    broken.get("spec", broken)["replicaz"] = 1
    with pytest.raises(Exception, match="replicaz"):
        check(broken, VERSION)


BROKEN: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("HTTPRoute", ("spec", "rules", 0, "timeouts", "request"), "soon"),
    ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "path", "type"), "Suffix"),
    ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "name"), ""),
    ("HTTPRoute", ("spec", "rules", 1, "backendRefs", 0, "port"), 70_000),
    ("HTTPRoute", ("spec", "rules", 1, "backendRefs", 0, "port"), None),
    ("HTTPRoute", ("spec", "parentRefs", 0, "namespace"), "Upper"),
    ("HTTPRoute", ("spec", "hostnames", 0), "llm example.com"),
    ("InferencePool", ("spec", "targetPorts", 0, "number"), "8000"),
    ("InferencePool", ("spec", "endpointPickerRef", "failureMode"), "FailSoft"),
    ("InferencePool", ("spec", "selector", "matchLabels"), {}),
    ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "size"), "2"),
    ("LeaderWorkerSet", ("spec", "startupPolicy"), "Sometimes"),
    ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "workerTemplate", "spec", "hostPid"), 1),
    ("StatefulSet", ("spec", "volumeClaimTemplates", 0, "spec", "accessModes"), "ReadWriteOnce"),
    ("Ingress", ("spec", "rules", 0, "http", "paths", 0, "pathType"), None),
    ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), "8"),
    ("ScaledObject", ("spec", "triggers", 0, "metadata"), None),
    ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "often"),
]


@pytest.mark.parametrize(("kind", "path", "value"), BROKEN)
def test_a_broken_value_is_found(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    broken = deepcopy(MADE[kind])
    part: Any = broken
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(Exception, match=str(path[-2] if isinstance(path[-1], int) else path[-1])):
        check(broken, VERSION)
