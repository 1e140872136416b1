"""Requirements of a check on this machine, reported together before it begins."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "smollm2-135m-instruct"
WEIGHTS = ROOT / ".cache" / "models" / MODEL


def building() -> dict[str, str]:
    """Debian's packages for building and running images, each with a program or file of it."""
    packages = {
        "buildah": "buildah",
        "podman": "podman",
        "runc": "runc",
        "netavark": "/usr/lib/podman/netavark",
        "nftables": "nft",
    }
    # It makes the stand-in for the base image.
    return packages if os.environ.get("BASE_IMAGE") else packages | {"mmdebstrap": "mmdebstrap"}


def require(check: str, packages: Mapping[str, str]) -> None:
    """Fail with one message that names all missing packages, weights and root rights.

    `packages` are Debian's, each with a program on the path or a file that it brings.
    """
    absent = [name for name, place in packages.items() if not _here(place)]
    lacking = [f"Debian's packages: apt-get install {' '.join(absent)}"] if absent else []
    if not (WEIGHTS / "config.json").is_file():
        lacking.append("the default model: make setup")
    if os.geteuid() != 0:
        lacking.append("root")
    if lacking:
        pytest.fail(f"{check} needs what is not here yet: {'; '.join(lacking)}", pytrace=False)


def _here(place: str) -> bool:
    return Path(place).exists() if place.startswith("/") else shutil.which(place) is not None
