"""Write the packages of the CPU image, Debian's and Python's, as SPDX: `make sbom`.

    python -m tools.sbom

IMAGE names another image than the one that `make image-test` builds.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tools.command_line import command_line
from tools.helm.binaries import syft
from tools.podman import IMAGE, podman

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "dist" / "sbom-cpu.spdx.json"


def main() -> None:
    """Write the file, and say how many packages of which kind it names."""
    image = os.environ.get("IMAGE") or IMAGE
    TARGET.parent.mkdir(exist_ok=True)
    folder = podman("image", "mount", image)
    try:
        command = [str(syft()), "scan", f"dir:{folder}", "--source-name", "llm-service"]
        command += ["--output", f"spdx-json={TARGET}", "--quiet"]
        subprocess.run(command, check=True, env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "0"})
    finally:
        podman("image", "unmount", image)
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}: {dict(kinds(TARGET))}\n")


def kinds(file: Path) -> Counter[str]:
    """The packages of an SPDX file by the kind that their package URL names."""
    found: Counter[str] = Counter()
    for package in json.loads(file.read_text(encoding="utf-8"))["packages"]:
        for reference in package.get("externalRefs", []):
            if reference["referenceType"] == "purl":
                found[reference["referenceLocator"].split("/")[0].removeprefix("pkg:")] += 1
    return found


if __name__ == "__main__":
    command_line("tools.sbom", __doc__).parse_args()
    main()
