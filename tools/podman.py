"""Containers by podman, without a daemon and without systemd."""

import os
import subprocess
import sys
from typing import NoReturn

PODMAN = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
IMAGE = "localhost/llm-service:test"
"""The service's image that `make image-test` builds."""
# A read-only root, no capabilities and no way to get any, as compose and the chart set.
CONFINED = "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges".split()

os.environ["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"


def podman(*arguments: str) -> str:
    """Run podman; returns what it printed. Exits with its message where it fails."""
    run = attempt(*arguments)
    if run.returncode:
        fail(f"podman {' '.join(arguments)}: {run.stderr}")
    return run.stdout.strip()


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run podman, which may fail."""
    return subprocess.run([*PODMAN, *arguments], check=False, capture_output=True, text=True)


def logs(container: str) -> str:
    """The last 30 lines that a container printed."""
    run = attempt("logs", "--tail", "30", container)
    return run.stdout + run.stderr


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(sentence: str) -> NoReturn:
    """End the program with a message."""
    raise SystemExit(f"error: {sentence}")
