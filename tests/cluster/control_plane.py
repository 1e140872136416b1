"""A private control plane on the loopback, which ends with the block that uses it."""

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.processes import end, free_port, wait_until
from tests.cluster.binaries import binary
from tools.helm.binaries import kubectl

PACKAGES = {"etcd-server": "etcd", "openssl": "openssl"}


class ControlPlane:
    """etcd, API server, controllers and scheduler; `folder` takes their data and logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = secrets.token_hex(16)
        self._port = free_port()
        self._stack = ExitStack()
        self.kubeconfig = folder / "kubeconfig"

    def __enter__(self) -> "ControlPlane":
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl; returns what it printed, raises CalledProcessError when it fails."""
        command = [str(kubectl()), "--kubeconfig", str(self.kubeconfig), *arguments]
        run = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {run.stderr.strip()}")
        return run.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of objects, from kubectl's JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def watch(self, *arguments: str) -> "subprocess.Popen[str]":
        """Follow an object: a process that prints it at once and after every change."""
        command = [str(kubectl()), "--kubeconfig", str(self.kubeconfig), "get", "--watch"]
        return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        for manifest in objects:
            self.kubectl("apply", "--validate=false", "--filename", "-", given=json.dumps(manifest))

    def run(self, name: str, command: list[str]) -> Callable[[], None]:
        """Run a program until the block ends or the returned function is called; keeps its log."""
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self._stack.callback(end, process, 15)
        return lambda: end(process, 15)

    def _start(self) -> None:
        etcd = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        self.run(
            "etcd",
            [
                "etcd",
                "--data-dir",
                str(self._folder / "etcd"),
                "--unsafe-no-fsync",
                "--listen-client-urls",
                etcd,
                "--advertise-client-urls",
                etcd,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
            ],
        )
        self._write_credentials()
        certificates, key = str(self._folder / "certificates"), str(self._folder / "accounts.key")
        self.run(
            "kube-apiserver",
            [
                str(binary("kube-apiserver")),
                "--etcd-servers",
                etcd,
                "--cert-dir",
                certificates,
                "--bind-address",
                "127.0.0.1",
                "--secure-port",
                str(self._port),
                "--advertise-address",
                "127.0.0.1",
                "--authorization-mode",
                "RBAC",
                "--token-auth-file",
                str(self._folder / "tokens.csv"),
                "--service-cluster-ip-range",
                "10.96.0.0/16",
                "--service-account-key-file",
                key,
                "--service-account-signing-key-file",
                key,
                "--service-account-issuer",
                "https://kubernetes.default.svc",
                "--allow-privileged",
            ],
        )
        eventually(
            "the API server answers", lambda: self.kubectl("get", "--raw", "/readyz") == "ok"
        )
        self.run(
            "kube-controller-manager",
            [
                str(binary("kube-controller-manager")),
                "--kubeconfig",
                str(self.kubeconfig),
                "--service-account-private-key-file",
                key,
                "--use-service-account-credentials",
                # This controller would treat nodes without a kubelet as dead.
                "--controllers",
                "*,-nodelifecycle",
                "--leader-elect=false",
                "--cert-dir",
                certificates,
                "--port",
                "0",
                "--secure-port",
                str(free_port()),
            ],
        )
        self.run(
            "kube-scheduler",
            [
                str(binary("kube-scheduler")),
                "--kubeconfig",
                str(self.kubeconfig),
                "--leader-elect=false",
                "--cert-dir",
                certificates,
                "--port",
                "0",
                "--secure-port",
                str(free_port()),
            ],
        )
        eventually(
            "service accounts are made",
            lambda: bool(self.get("serviceaccounts", "--namespace", "default")["items"]),
        )

    def _write_credentials(self) -> None:
        self.kubeconfig.touch(mode=0o600)
        key = self._folder / "accounts.key"
        subprocess.run(
            ["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
        )
        tokens = self._folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f"{self._token},admin,admin,system:masters\n", encoding="utf-8")
        server = f"https://127.0.0.1:{self._port}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": True}}
            ],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config), encoding="utf-8")


def eventually(what: str, holds: Callable[[], bool], seconds: float = 120) -> None:
    """Return when a condition holds in the cluster; else raise TimeoutError with its name."""
    absent = (RuntimeError, KeyError, IndexError, ValueError)
    wait_until(holds, seconds, what, every=0.5, forgiven=absent)


def environment(plane: ControlPlane) -> dict[str, str]:
    """The environment in which Helm talks to this cluster and to no other."""
    return {**os.environ, "KUBECONFIG": str(plane.kubeconfig), "HELM_NO_PLUGINS": "1"}
