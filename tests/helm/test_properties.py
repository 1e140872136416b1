"""Random values render to valid manifests, or are refused for the reason that applies."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helm.kubernetes import check
from tools.helm.chart import (
    Manifest,
    Refused,
    ci_values,
    manifests,
    merged,
    one,
    pod_templates,
    server,
)

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
names = st.from_regex(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True)
labels = st.dictionaries(names, names, max_size=3)
BASES = ["cpu-minimal", "one-gpu", "tp4", "two-nodes", "air-gapped", "multi-tenant"]


@st.composite
def valid_values(draw: st.DrawFn) -> dict[str, Any]:
    """Values of one of the situations, with independent parts changed at random."""
    name = draw(st.sampled_from([*BASES, "keda-scale-to-zero"]))
    chosen: dict[str, Any] = {
        "fullnameOverride": draw(st.just("") | names),
        "config": {
            "admission": {"max_queued": draw(st.integers(0, 10**7))},
            "http": {
                "port": draw(st.integers(1024, 9999)),
                "ops_port": draw(st.integers(10000, 65535)),
            },
            "limits": {"stop": draw(st.integers(0, 64))},
        },
        "podLabels": draw(labels),
        "podAnnotations": draw(labels),
        "preStopSeconds": draw(st.integers(0, 20)),
        "terminationGracePeriodSeconds": draw(st.just("auto") | st.integers(660, 4000)),
        "model": {"weightsGiB": draw(st.floats(0.1, 3.9))},
        "service": {"port": draw(st.integers(1, 65535))},
        "serviceAccount": {"create": draw(st.booleans()), "name": draw(st.just("") | names)},
        "networkPolicy": {"enabled": draw(st.booleans()), "https": draw(st.booleans())},
        "podDisruptionBudget": {"enabled": draw(st.booleans())},
        "monitoring": {
            part: {"enabled": draw(st.booleans())}
            for part in ("serviceMonitor", "prometheusRule", "dashboards")
        },
        "smokeTest": {"enabled": draw(st.booleans())},
        "loadTest": {"enabled": draw(st.booleans())},
        "spread": draw(st.booleans()),
        "rollout": {"maxUnavailable": draw(st.just("auto") | st.integers(1, 3))},
    }
    if name not in ("one-gpu", "keda-scale-to-zero"):
        chosen["replicas"] = draw(st.integers(0, 9))
    return merged(ci_values(name), chosen)


@given(values=valid_values())
@few
def test_valid_values_render_valid_manifests(values: dict[str, Any]) -> None:
    objects = manifests(values)
    names_of_kinds = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(names_of_kinds)) == len(names_of_kinds)
    for manifest in objects:
        check(manifest, "1.37")
    for template in pod_templates(objects):
        check_restricted(template)
    check_wiring(objects, values)


@given(
    values=valid_values(),
    grace=st.integers(500, 900),
    pause=st.integers(0, 120),
)
@few
def test_a_pod_always_has_time_to_drain(values: dict[str, Any], grace: int, pause: int) -> None:
    values = merged(values, {"terminationGracePeriodSeconds": grace, "preStopSeconds": pause})
    spans = 3 if "tracing" in values["config"] else 0
    if grace > pause + 616 + spans:
        assert server(manifests(values))["name"] == "server"
    else:
        with pytest.raises(Refused, match=f"terminationGracePeriodSeconds is {grace}"):
            manifests(values)


@given(tensor=st.integers(1, 8), pipeline=st.integers(1, 4), gpus=st.integers(0, 8))
@few
def test_gpus_are_as_many_as_the_engine_uses(tensor: int, pipeline: int, gpus: int) -> None:
    sizes = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    values = {"gpu": {"count": gpus}, "config": {"engine": sizes}}
    if tensor * pipeline == max(1, gpus):
        limits = server(manifests(values))["resources"]["limits"]
        assert limits.get("nvidia.com/gpu", "0") == str(gpus)
    else:
        with pytest.raises(Refused, match="tensor_parallel_size"):
            manifests(values)


@given(gib=st.floats(0.1, 1500), base=st.integers(1, 900), per_gib=st.integers(0, 60))
@few
def test_the_start_may_take_as_long_as_the_weights_need(
    gib: float, base: int, per_gib: int
) -> None:
    startup = {"baseSeconds": base, "secondsPerGiB": per_gib}
    values = {"model": {"weightsGiB": gib}, "probes": {"startup": startup}}
    values |= {"storage": {"models": {"existingClaim": "weights"}}}
    objects = manifests(merged(values, {"terminationGracePeriodSeconds": 900}))
    probe = server(objects)["startupProbe"]
    allowed = probe["failureThreshold"] * probe["periodSeconds"]
    assert base + per_gib * gib <= allowed < base + per_gib * gib + probe["periodSeconds"] + 1
    assert one(objects, "Deployment")["spec"]["progressDeadlineSeconds"] > allowed + 900


def check_restricted(template: Manifest) -> None:
    """Requirements of the `restricted` Pod Security Standard, and a little more."""
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in spec["volumes"]}


def check_wiring(objects: list[Manifest], values: dict[str, Any]) -> None:
    """Services select the pods that serve, and every port is one that they open."""
    (template,) = [
        t for t in pod_templates(objects) if t["spec"]["containers"][0]["name"] == "server"
    ]
    ports = {port["name"]: port["containerPort"] for port in server(objects)["ports"]}
    assert ports["http"] == values["config"]["http"]["port"]
    for service in [o for o in objects if o["kind"] == "Service"]:
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    public = [o for o in objects if o["kind"] == "Service" and "clusterIP" not in o["spec"]]
    assert [port["targetPort"] for o in public for port in o["spec"]["ports"]] == ["http"]
