"""The built image as real pods: a rolling restart under load."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane, eventually
from tests.cluster.real_node import real_node
from tests.cluster.release import NAMESPACE, OBJECT, Release
from tests.image.build import build
from tests.image.load import Load
from tests.image.needs import MODEL, WEIGHTS
from tests.image.patience import PATIENT
from tests.served.server import START_SECONDS
from tools.helm.chart import CHART, merged
from tools.podman import IMAGE


class Endpoints:
    """The addresses behind a Service, kept up to date as by a proxy of the cluster."""

    def __init__(self, plane: ControlPlane) -> None:
        self._watch = plane.watch(
            "endpoints", OBJECT, "--namespace", NAMESPACE,
            "--output", 'jsonpath={.subsets[*].addresses[*].ip}{"\\n"}',
        )  # fmt: skip
        self._urls: list[str] = []
        self._next = 0
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> "Endpoints":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.terminate()
        self._watch.wait()
        self._thread.join()

    def url(self) -> str:
        """URL of the next address in turn."""
        urls = self._urls
        self._next += 1
        return urls[self._next % len(urls)]

    def known(self) -> bool:
        """True if an address is known."""
        return bool(self._urls)

    def _follow(self) -> None:
        for line in self._watch.stdout or ():
            self._urls = [f"http://{address}:8000" for address in line.split()]


def rolling_restart(plane: ControlPlane, folder: Path) -> str:
    """Restart the Deployment while clients ask; returns a sentence on their requests.

    Raises AssertionError when one of them failed.
    """
    image = os.environ.get("IMAGE") or IMAGE
    if image == IMAGE:
        build("cpu", image)
    model = folder / "model"
    shutil.copytree(WEIGHTS, model)
    for path in (folder, model, *model.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with real_node(plane, folder, image) as node:
        install(plane, node, image, model)
        pod = plane.get("deployment", OBJECT, "--namespace", NAMESPACE)["spec"]["template"]["spec"]
        # The time in which a pod must end, and as much again for the rest of the kubelet's work.
        patience = pod["terminationGracePeriodSeconds"] + 120
        with Endpoints(plane) as endpoints:
            eventually("the Service has an address", endpoints.known)
            first = endpoints.url()
            with Load(endpoints.url, MODEL, clients=4, tokens=24) as load:
                load.wait_for_answers(8)
                restart = ["rollout", "restart", f"deployment/{OBJECT}", "--namespace", NAMESPACE]
                plane.kubectl(*restart)
                status = ["rollout", "status", f"deployment/{OBJECT}", "--namespace", NAMESPACE]
                # The second pod starts while the first one serves, on the same cores.
                plane.kubectl(*status, "--timeout", f"{2 * START_SECONDS}s")
                eventually("the old pod has ended", lambda: left(plane, 1), patience)
                load.wait_for_answers(8)
                assert endpoints.url() != first, "the old pod still answers"
        outcomes = load.outcomes()
        Release(plane, 4).uninstall()
        eventually("the last pod has ended", lambda: left(plane, 0), patience)
    assert set(outcomes) == {"answered"}, f"requests failed: {dict(outcomes)}"
    return f"rolling restart under load: {outcomes['answered']} requests, all answered"


def install(plane: ControlPlane, node: str, image: str, model: Path) -> None:
    """One replica of the image on the node, the weights from a folder of it."""
    repository, _, tag = image.rpartition(":")
    config = {"model": {"path": "/weights"}, "tenants": {"allow_anonymous": True}}
    values = merged(
        PATIENT,
        {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "model": {"source": "baked", "weightsGiB": 0.3},
            "config": config,
            "extraVolumes": [{"name": "weights", "hostPath": {"path": str(model)}}],
            "extraVolumeMounts": [{"name": "weights", "mountPath": "/weights", "readOnly": True}],
            "nodeSelector": {"kubernetes.io/hostname": node},
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Mi"}},
            "probes": {
                "startup": {"baseSeconds": START_SECONDS},
                "liveness": {"timeoutSeconds": 60},
                "readiness": {"timeoutSeconds": 60},
            },
        },
    )
    Release(plane, 4).install(CHART, values, "--wait", "--timeout", f"{START_SECONDS}s")


def left(plane: ControlPlane, count: int) -> bool:
    """True once so many of the release's pods are left; ValueError names them while there are more.

    One whose containers have ended is not: kubelets of that age may keep its object for minutes.
    """
    items = plane.get("pods", "--namespace", NAMESPACE)["items"]
    names = [item["metadata"]["name"] for item in items if not _ended(item["status"])]
    if len(names) > count:
        raise ValueError(f"there are still {', '.join(names)}")
    return len(names) == count


def _ended(status: dict[str, Any]) -> bool:
    containers = status.get("containerStatuses", [])
    return bool(containers) and all("terminated" in each["state"] for each in containers)
