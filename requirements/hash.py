"""Write the lists of this folder that the images are installed from, each file with its sha256.

    python requirements/hash.py

Run it by a Python 3.11 on Linux x86-64, which is what the images hold: one hash stands for each
package, that of the wheel which pip takes there. It asks the index that pip is configured with and
writes no address.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
# PyTorch's CPU builds come from an index of their own, or from a folder: each has its own bytes, so
# that install.sh checks their version and kind instead.
WITHOUT_HASH = ("torch", "torchvision")
HEAD = "# Written by requirements/hash.py.\n"


def main() -> None:
    """Write every list."""
    others = sorted(path.stem for path in FOLDER.glob("vllm-*.txt"))
    for name in ("cpu", "cuda", *others):
        pins = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        if name != "cuda":
            pins = [pin for pin in pins if pin.split("==")[0] not in WITHOUT_HASH]
        write(name, pins, "--no-deps")
    constraint = ["--constraint", str(FOLDER / "dev.txt")]
    write("build", ["hatchling"])
    write("uv", ["uv"])
    text = (FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    write("loadtest", extras["loadtest"], *constraint)


def write(name: str, requirements: list[str], *options: str) -> None:
    """Write one list of what pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "wanted.txt", Path(folder) / "report.json"
        wanted.write_text("\n".join(requirements), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        pip += ["--only-binary", ":all:", "--report", str(report), "--requirement", str(wanted)]
        # Packages in a folder of this machine exist nowhere else: let pip look into an empty one.
        environment = {**os.environ, "PIP_FIND_LINKS": folder}
        subprocess.run([*pip, *options], check=True, env=environment)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = sorted(line(entry) for entry in found)
    (FOLDER / f"hashed-{name}.txt").write_text(HEAD + "".join(lines), encoding="utf-8")


def line(entry: dict[str, dict[str, object]]) -> str:
    """A pin with the hash of the file that pip takes."""
    metadata, archive = entry["metadata"], entry["download_info"]["archive_info"]
    assert isinstance(archive, dict)
    return (
        f"{metadata['name']}=={metadata['version']} --hash=sha256:{archive['hashes']['sha256']}\n"
    )


if __name__ == "__main__":
    main()
