"""The Job that runs a load scenario, and the place where its results stay."""

from typing import Any

from tools.helm.chart import Manifest, manifests, merged


def pod(load_test: dict[str, Any]) -> Manifest:
    """The pod of the load test's Job."""
    objects = manifests({"loadTest": merged({"enabled": True}, load_test)})
    (job,) = [o for o in objects if o["kind"] == "Job"]
    spec: Manifest = job["spec"]["template"]["spec"]
    return spec


def test_results_lie_on_the_claim_each_runs_in_a_folder_of_its_own() -> None:
    spec = pod({"resultsClaim": "measurements"})
    assert volume(spec, "results") == {"persistentVolumeClaim": {"claimName": "measurements"}}
    (container,) = spec["containers"]
    (out,) = [a.removeprefix("--out=") for a in container["args"] if a.startswith("--out=")]
    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "results"]
    assert out == f"{mount}/$(POD_NAME)"
    names = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    assert names == {"POD_NAME": "metadata.name"}


def test_without_a_claim_results_end_with_the_pod() -> None:
    assert volume(pod({}), "results") == {"emptyDir": {"sizeLimit": "1Gi"}}


def volume(spec: Manifest, name: str) -> Manifest:
    """Definition of a pod's volume, without its name."""
    (found,) = [v for v in spec["volumes"] if v["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}
