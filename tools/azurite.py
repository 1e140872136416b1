"""Azurite, Microsoft's emulator of Azure's object store, fetched with npm for `make test-azure`.

    python -m tools.azurite

fetches it into .cache/azurite (190 MB), unless it is there.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.processes import free_port, running, served, wait_until
from tools.command_line import command_line

_VERSION = "3.35.0"
_FETCHED = Path(__file__).parents[1] / ".cache" / "azurite" / _VERSION
_PROGRAM = _FETCHED / "node_modules" / ".bin" / "azurite-blob"
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of every Azurite, which its documentation names."""


def is_fetched() -> bool:
    """True once it can be run."""
    return _PROGRAM.exists()


@contextmanager
def azurite(log: Path) -> Iterator[str]:
    """Run it without files, and empty, while the block runs; yields its connection string."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--disableTelemetry"]
    # The client may be of a newer version of the protocol.
    with running([_PROGRAM, *options, "--skipApiVersionCheck"], log) as process:
        wait_until(lambda: served(url, process, log), 60, url)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint={url}/{_ACCOUNT};"
        )


def main() -> str | None:
    """Fetch it if it is missing; returns the error to exit with, if any."""
    if is_fetched():
        return None
    if (npm := shutil.which("npm")) is None:
        return "error: npm was not found: install Debian's package npm"
    print(f"==> fetching azurite {_VERSION} into .cache/azurite", file=sys.stderr)
    quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error")
    wanted = [npm, "install", *quiet, "--prefix", str(_FETCHED), f"azurite@{_VERSION}"]
    done = subprocess.run(wanted, check=False).returncode
    return f"error: npm could not fetch azurite@{_VERSION}" if done else None


if __name__ == "__main__":
    command_line("tools.azurite", __doc__).parse_args()
    sys.exit(main())
