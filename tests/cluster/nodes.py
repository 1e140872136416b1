"""Nodes without a kubelet: the scheduler sees their resources, and pods there become ready."""

import json
import threading
from contextlib import suppress
from typing import Any

from tests.cluster.control_plane import ControlPlane

GPU = "nvidia.com/gpu"


def add_node(plane: ControlPlane, name: str, gpus: int, cpus: int = 32) -> None:
    """Add a node that reports that it is ready and has so many GPUs."""
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a"}
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    resources = {
        "cpu": str(cpus),
        "memory": "256Gi",
        "ephemeral-storage": "1000Gi",
        "pods": "110",
    }
    if gpus:
        resources[GPU] = str(gpus)
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Fake",
        "message": "",
        "lastHeartbeatTime": "2100-01-01T00:00:00Z",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }
    status = {"capacity": resources, "allocatable": resources, "conditions": [condition]}
    patch_status(plane, "node", name, status)
    # Set on every new node; the controller that removes it waits for a real kubelet.
    plane.kubectl("taint", "node", name, "node.kubernetes.io/not-ready-")


class Kubelets:
    """Plays the kubelets of such nodes in a thread of its own, until the block ends."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Kubelets":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.3):
            # An object may disappear between the check and the change.
            with suppress(RuntimeError):
                play(self._plane, self._namespace)


def play(plane: ControlPlane, namespace: str) -> None:
    """Do a kubelet's work once: start scheduled pods, delete terminated ones."""
    for pod in plane.get("pods", "--namespace", namespace)["items"]:
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            plane.kubectl(
                "delete", "pod", name, "--namespace", namespace, "--grace-period=0", "--force"
            )
        elif pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
            patch_status(plane, "pod", name, _running(pod), namespace)


def patch_status(
    plane: ControlPlane, kind: str, name: str, status: dict[str, Any], namespace: str = "default"
) -> None:
    """Write an object's status, as its kubelet or controller would."""
    patch = ["patch", kind, name, "--namespace", namespace, "--subresource", "status"]
    plane.kubectl(*patch, "--type", "merge", "--patch", json.dumps({"status": status}))


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    started = "2020-01-01T00:00:00Z"
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "started": True,
            "state": {"running": {"startedAt": started}},
        }
        for container in pod["spec"]["containers"]
    ]
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "startTime": started,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": started} for kind in kinds
        ],
        "containerStatuses": containers,
    }
