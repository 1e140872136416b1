"""Build the CPU image and the load tests', and run both as a cluster would: `make image-test`.

IMAGE names an existing image of the service to run instead; BASE_IMAGE another base to build on.
The service runs read-only, without capabilities and as its own user, answers a completion, a
classification and a load scenario of the other image, and ends with 0 on SIGTERM under load after
it has answered every request that it had begun.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from loadtests.processes import free_port, served, wait_until
from tests.image.build import build
from tests.image.load import Load
from tests.image.needs import MODEL, ROOT, WEIGHTS, building, require
from tests.image.patience import PATIENT
from tests.image.scenario import run_scenario
from tests.served.server import START_SECONDS
from tools.helm.chart import manifests, one
from tools.podman import CONFINED, IMAGE, attempt, fail, logs, podman, say

pytestmark = [pytest.mark.image, pytest.mark.timeout(0)]

LOAD_TESTS = "localhost/llm-service:loadtest"


def test_the_image_serves_confined_and_ends_under_load() -> None:
    require("image-test", building())
    image = os.environ.get("IMAGE") or IMAGE
    if image == IMAGE:
        build("cpu", image)
    build("loadtest", LOAD_TESTS)
    for name in (image, LOAD_TESTS):
        size = int(podman("image", "inspect", "--format", "{{.Size}}", name))
        say(f"image: {name}, {size / 2**30:.2f} GiB")
    public, ops = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        container = start(image, Path(folder), public, ops)
        try:
            wait_until_ready(container, ops)
            check_confinement(container)
            check_answers(public)
            run_scenario(LOAD_TESTS, container)
            check_end_under_load(container, public)
        finally:
            attempt("rm", "--force", container)


def prepare(folder: Path) -> None:
    """Put the chart's configuration and the weights there, as `make setup` leaves them."""
    config = one(manifests(PATIENT), "ConfigMap")["data"]["config.yaml"]
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    shutil.copytree(WEIGHTS, folder / "model")
    folder.chmod(0o755)


def start(image: str, folder: Path, public: int, ops: int) -> str:
    """Run the image; its id."""
    options = ["--detach", *CONFINED, "--shm-size", "1g"]
    options += ["--publish", f"127.0.0.1:{public}:8000", "--publish", f"127.0.0.1:{ops}:8001"]
    options += ["--volume", f"{folder}/config.yaml:/etc/llm-service/config.yaml:ro"]
    options += ["--volume", f"{folder}/model:/models/base:ro"]
    return podman("run", *options, image)


def wait_until_ready(container: str, ops: int) -> None:
    """Return when the service says that it is ready."""

    def ready() -> bool:
        if podman("inspect", "--format", "{{.State.Running}}", container) != "true":
            fail(f"the service did not start:\n{logs(container)}")
        return served(f"http://127.0.0.1:{ops}/readyz")

    started = time.monotonic()
    wait_until(ready, START_SECONDS, "readiness", every=1)
    say(f"ready: after {time.monotonic() - started:.0f} s")


def check_confinement(container: str) -> None:
    """Check the user, the capabilities, that only /tmp and /adapters are writable, and health."""
    status = podman("exec", container, "cat", "/proc/1/status")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    if fields["Uid"].split()[0] != "10001" or int(fields["CapEff"], 16) != 0:
        fail(f"process 1 runs as {fields['Uid']} with capabilities {fields['CapEff']}")
    for folder, writable in (("/", False), ("/opt", False), ("/tmp", True), ("/adapters", True)):
        code = attempt("exec", container, "touch", f"{folder}/probe").returncode
        if (code == 0) != writable:
            fail(f"{folder} is {'not ' if writable else ''}writable")
    for tool in ("gcc", "cc", "g++"):
        if attempt("exec", container, "sh", "-c", f"command -v {tool}").returncode == 0:
            fail(f"{tool} is in the image")
    podman("healthcheck", "run", container)
    say("confined: user 10001, no capability, read-only root, no compiler; healthy")


def check_answers(public: int) -> None:
    """A completion and a classification, asked by the chart's own test."""
    smoke = ROOT / "helm" / "files" / "smoke.py"
    url = f"http://127.0.0.1:{public}"
    answer = subprocess.run(
        [sys.executable, str(smoke), url, MODEL], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        fail(answer.stderr)
    say(answer.stdout.strip())


def check_end_under_load(container: str, public: int) -> None:
    """SIGTERM while requests run: those that had begun are answered, and the exit code is 0."""
    with Load(lambda: f"http://127.0.0.1:{public}", MODEL, clients=8) as load:
        load.wait_for_answers(16)
        begun = load.running()
        podman("kill", "--signal", "TERM", container)
        code = podman("wait", container)
    outcomes: Counter[str] = load.outcomes()
    say(f"SIGTERM with {len(begun)} requests running: exit code {code}, {json.dumps(outcomes)}")
    lost = [request for request in begun if load.outcome(request) != "answered"]
    if lost:
        fail(f"{len(lost)} requests that had begun were lost: {[load.outcome(r) for r in lost]}")
    if code != "0":
        fail(f"the exit code is {code}:\n{logs(container)}")
