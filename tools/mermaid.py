"""Mermaid, the script that draws the diagrams of the documentation site, fetched with npm.

    python -m tools.mermaid .cache/site/mermaid.min.js

The repository does not hold the script. The site would otherwise load it from another host each
time that a page is read. A file with another digest than the pinned one is refused.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tools.command_line import command_line

VERSION = "11.16.0"
SHA256 = "74d7c46dabca328c2294733910a8aa1ed0c37451776e8d5295da38a2b758fb9b"
"""Digest of dist/mermaid.min.js in that version's package."""


def fetched() -> bytes:
    """The script; SystemExit with a sentence where npm is missing, fails or gives other bytes."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("error: npm was not found: install Debian's package npm (the site needs Mermaid)")
    with tempfile.TemporaryDirectory() as folder:
        packed = [npm, "pack", "--silent", f"mermaid@{VERSION}"]
        done = subprocess.run(packed, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"error: npm could not fetch mermaid@{VERSION}: {done.stderr.strip()}")
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            member = package.extractfile("package/dist/mermaid.min.js")
            assert member is not None
            script = member.read()
    digest = hashlib.sha256(script).hexdigest()
    if digest != SHA256:
        sys.exit(f"error: mermaid.min.js {VERSION}: sha256 must be {SHA256}, got {digest}")
    return script


def main(target: Path) -> None:
    """Write the script to a file, whole or not at all."""
    script = fetched()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(script)
    partial.replace(target)


if __name__ == "__main__":
    parser = command_line("tools.mermaid", __doc__)
    parser.add_argument("file", type=Path, help="file to write")
    main(parser.parse_args().file)
