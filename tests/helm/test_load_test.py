"""The pod that runs a load scenario, its log, and the place where its results stay."""

from typing import Any

import pytest

from tools.helm.chart import Manifest, ci_values, manifests, merged, one


def pod(load_test: dict[str, Any]) -> Manifest:
    """The specification of the load test's pod."""
    objects = manifests({"loadTest": merged({"enabled": True}, load_test)})
    spec: Manifest = one(objects, "Pod", "-load-test")["spec"]
    return spec


def test_results_lie_on_the_claim_each_runs_in_a_folder_of_its_own() -> None:
    spec = pod({"resultsClaim": "measurements"})
    assert volume(spec, "results") == {"persistentVolumeClaim": {"claimName": "measurements"}}
    (container,) = spec["containers"]
    (out,) = [a.removeprefix("--out=") for a in container["args"] if a.startswith("--out=")]
    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "results"]
    assert out == f"{mount}/$(POD_UID)"
    names = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    assert names == {"POD_UID": "metadata.uid"}, "the pod has the same name in every run"


def test_without_a_claim_results_end_with_the_pod() -> None:
    assert volume(pod({}), "results") == {"emptyDir": {"sizeLimit": "1Gi"}}


def test_it_ends_in_time() -> None:
    spec = pod({"timeoutSeconds": 60})
    assert (spec["activeDeadlineSeconds"], spec["restartPolicy"]) == (60, "Never")


@pytest.mark.parametrize("name", ["cpu-minimal", "multi-tenant", "encoders"])
def test_helm_finds_the_log_of_every_test(name: str) -> None:
    # `helm test --logs` asks for the log of a pod with the hook's name, whatever its kind is.
    objects = manifests(merged(ci_values(name), {"loadTest": {"enabled": True}}))
    hooks = [o for o in objects if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    assert [hook["kind"] for hook in hooks] == ["Pod", "Pod"]


def volume(spec: Manifest, name: str) -> Manifest:
    """Definition of a pod's volume, without its name."""
    (found,) = [v for v in spec["volumes"] if v["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}
