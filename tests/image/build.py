"""Build an image of the Dockerfile without a container daemon."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.image.base import base_image

ROOT = Path(__file__).parents[2]
CERTIFICATES = Path("/etc/ssl/certs")
# Chroot isolation needs neither a daemon nor user namespaces.
BUILD = "buildah bud --layers --format docker --isolation chroot --network host".split()
BUILD += "--ulimit nofile=20000:20000 --ulimit nproc=20000:20000".split()


def build(target: str, image: str) -> None:
    """Build a target as an image of that name, on BASE_IMAGE or on the stand-in.

    TORCH_INDEX, if set, is the index of torch, as for `make setup`.

    pip's configuration of this machine goes in as a secret, the folders that it names as mounts;
    neither stays in the image.
    """
    base = os.environ.get("BASE_IMAGE") or base_image()
    settings = pip_settings()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as secret:
        secret.write("[global]\n" + "".join(f"{key} = {v}\n" for key, v in settings.items()))
        secret.flush()
        command = [*BUILD, "--pull=missing", "--build-arg", f"BASE_IMAGE={base}"]
        if index := os.environ.get("TORCH_INDEX"):
            command += ["--build-arg", f"TORCH_INDEX={index}"]
        command += ["--secret", f"id=pip.conf,src={secret.name}"]
        for folder in (CERTIFICATES, *folders(settings.get("find-links", ""))):
            command += ["--volume", f"{folder}:{folder}:ro"]
        command += ["--target", target, "--tag", image, str(ROOT)]
        subprocess.run(command, check=True)


def pip_settings() -> dict[str, str]:
    """Configuration of pip on this machine: the keys that say where packages come from."""
    run = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    settings: dict[str, str] = {}
    for line in run.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.strip().removeprefix("global.").removeprefix(":env:.")
        if name in ("index-url", "extra-index-url", "find-links", "trusted-host", "cert"):
            settings[name] = value.strip().strip("'").replace("\\n", " ")
    return settings


def folders(find_links: str) -> list[Path]:
    """The folders of this machine among the places that pip looks at."""
    return [Path(place) for place in find_links.split() if Path(place).is_dir()]
