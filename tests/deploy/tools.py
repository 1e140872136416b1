"""Debian's Prometheus and Alertmanager."""

import shutil
import subprocess

PACKAGES = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}


def run(tool: str, *arguments: str) -> str:
    """What a tool prints; AssertionError with it where the tool fails or is missing."""
    assert shutil.which(tool), f"{tool} was not found: apt-get install {PACKAGES[tool]}"
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
