"""One real node on this machine: containerd and a kubelet, for as long as a block lasts."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.cluster.binaries import CACHE, binary
from tests.cluster.control_plane import ControlPlane, eventually
from tests.cluster.release import NAMESPACE
from tests.image.base import base_image

NAME = "real-node"
_PAUSE = "localhost/llm-service-pause:test"
_BRIDGE = "llmtest0"
_CNI = Path("/usr/lib/cni")
PACKAGES = {
    "containerd": "containerd",
    "containernetworking-plugins": str(_CNI / "bridge"),
    "iproute2": "ip",
}
# A kubelet changes these settings of its node; they are restored at the end.
_SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def possible() -> bool:
    """True if this machine has cgroups of version 1, the only ones that this kubelet knows."""
    return Path("/sys/fs/cgroup/memory").is_dir()


@contextmanager
def real_node(plane: ControlPlane, folder: Path, image: str) -> Iterator[str]:
    """A node that runs pods of an image from podman's storage; yields its name.

    Whatever still runs on it is killed at the end, and what it mounted and set is undone.
    """
    socket = folder / "containerd.sock"
    with ExitStack() as stack:
        stack.callback(_unmount, folder)
        stack.callback(_delete_bridge)
        stack.callback(_delete_logs)
        for path in (Path("/proc/sys", name) for name in _SYSCTLS):
            stack.callback(path.write_text, path.read_text())
        stack.callback(plane.run("containerd", ["containerd", "-c", _configure(folder, socket)]))
        eventually("containerd answers", lambda: bool(_ctr(socket, "version")))
        stack.callback(_kill_all, socket)
        _pause_image()
        for name in (_PAUSE, image):
            _import(name, socket)
        stack.callback(plane.run("kubelet", _kubelet(plane, folder, socket)))
        eventually("the node is ready", lambda: _ready(plane))
        plane.kubectl("taint", "node", NAME, "node.kubernetes.io/not-ready-")
        yield NAME


def _kill_all(socket: Path) -> None:
    for kind, how in (("tasks", ["--force"]), ("containers", [])):
        for name in _ctr(socket, kind, "list", "--quiet").split():
            with suppress(RuntimeError):  # it may have ended with another one meanwhile
                _ctr(socket, kind, "delete", *how, name)


def _unmount(folder: Path) -> None:
    """Unmount what the kubelet leaves mounted, the deepest first."""
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    places = [line.split()[1] for line in lines]
    for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
        subprocess.run(["umount", place], check=True)


def _delete_logs() -> None:
    for log in Path("/var/log/pods").glob(f"{NAMESPACE}_*"):
        shutil.rmtree(log)
    for link in Path("/var/log/containers").glob(f"*_{NAMESPACE}_*"):
        link.unlink()


def _delete_bridge() -> None:
    subprocess.run(["ip", "link", "delete", _BRIDGE], check=False, capture_output=True)


def _configure(folder: Path, socket: Path) -> str:
    network = folder / "cni"
    network.mkdir()
    bridge = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": _BRIDGE,
                "isGateway": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folder / "addresses"),
                    "ranges": [[{"subnet": "10.244.77.0/24"}]],
                },
            }
        ],
    }
    (network / "10-pods.conflist").write_text(json.dumps(bridge), encoding="utf-8")
    root = CACHE / "containerd"
    root.mkdir(parents=True, exist_ok=True)
    config = folder / "containerd.toml"
    config.write_text(
        f"""
version = 2
root = "{root}"
state = "{folder / "containerd"}"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{_PAUSE}"
# Where root may not lower it, which a sandbox would.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_CNI}"
conf_dir = "{network}"
""",
        encoding="utf-8",
    )
    return str(config)


def _kubelet(plane: ControlPlane, folder: Path, socket: Path) -> list[str]:
    return [
        str(binary("kubelet")),
        "--kubeconfig", str(plane.kubeconfig),
        "--container-runtime", "remote",
        "--container-runtime-endpoint", f"unix://{socket}",
        "--hostname-override", NAME,
        "--root-dir", str(folder / "kubelet"),
        "--cert-dir", str(folder / "kubelet-certificates"),
        "--cgroup-driver", "cgroupfs",
        "--cgroups-per-qos=false",
        "--enforce-node-allocatable=",
        "--fail-swap-on=false",
        "--eviction-hard=",
        "--image-gc-high-threshold=100",
        "--address", "127.0.0.1",
        "--healthz-port", "0",
        "--read-only-port", "0",
    ]  # fmt: skip


def _pause_image() -> None:
    """Build the image that holds a pod's network: any process that waits."""
    with tempfile.TemporaryDirectory() as folder:
        text = f'FROM {base_image()}\nENTRYPOINT ["/bin/sleep", "infinity"]\n'
        (Path(folder) / "Dockerfile").write_text(text, encoding="utf-8")
        command = ["buildah", "bud", "--quiet", "--format", "docker", "--pull=never"]
        subprocess.run([*command, "--tag", _PAUSE, folder], check=True, capture_output=True)


def _import(image: str, socket: Path) -> None:
    if image in _ctr(socket, "images", "list", "--quiet").split():
        _ctr(socket, "images", "remove", image)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        archive = Path(folder) / "image.tar"
        save = ["podman", "save", "--quiet", "--format", "docker-archive", "--output", str(archive)]
        subprocess.run([*save, image], check=True, capture_output=True)
        _ctr(socket, "images", "import", "--no-unpack", str(archive))


def _ctr(socket: Path, *arguments: str) -> str:
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"ctr {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout


def _ready(plane: ControlPlane) -> bool:
    conditions = plane.get("node", NAME)["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
