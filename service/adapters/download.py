"""Files from a source to a folder: bounded, resumable, checked."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from service.adapters.refusal import AdapterRefused
from service.adapters.sources import Source
from service.errors import ConfigurationError
from service.files import file_digest

PART = ".part"


def read_bounded(source: Source, name: str, max_bytes: int) -> bytes:
    """Return a small file to its end, or its first `max_bytes` and one more.

    Raises SourceMissing or SourceUnreachable.
    """
    read = bytearray()
    try:
        with source.open(name, max_bytes + 1) as stream:
            # A stream of unknown length gives the bytes that have arrived, perhaps too few.
            while len(read) <= max_bytes and (part := stream.read(max_bytes + 1 - len(read))):
                read += part
        return bytes(read)
    except Exception as error:  # each client has exceptions of its own
        raise source.explain(name, error) from error


@dataclass(frozen=True, slots=True)
class Download:
    """The fetch of one adapter's files into `folder`, reading `block_bytes` at once."""

    source: Source
    adapter: str
    folder: Path
    block_bytes: int

    def file(self, name: str, expected: str, max_bytes: int) -> int:
        """Fetch one file unless it is there, and return its size in bytes.

        A part left by an earlier try is continued; if the complete file then has the wrong digest,
        the part was stale and the file is fetched again from its start. Raises AdapterRefused for a
        wrong digest or more than `max_bytes`; SourceMissing or SourceUnreachable when the source
        fails, and keeps the part for the next try.
        """
        target, part = self.folder / name, self.folder / (name + PART)
        if not target.exists():
            resumed = part.exists() and part.stat().st_size > 0
            found = self._fetch(name, part, max_bytes)
            if found != expected and resumed:
                part.unlink()
                found = self._fetch(name, part, max_bytes)
            if found != expected:
                part.unlink()
                raise AdapterRefused(
                    self.adapter, name, "digest differs at its source", expected, found
                )
            part.replace(target)
        return target.stat().st_size

    def _fetch(self, name: str, part: Path, max_bytes: int) -> str:
        try:
            with self.source.open(name, self.block_bytes) as stream, part.open("ab") as out:
                self._copy(name, stream, out, max_bytes)
                out.flush()
                os.fsync(out.fileno())
        except ConfigurationError:
            raise
        except Exception as error:  # each client has exceptions of its own
            raise self.source.explain(name, error) from error
        return file_digest(part)

    def _copy(self, name: str, stream: BinaryIO, out: BinaryIO, max_bytes: int) -> None:
        written = _skip_held(stream, out)
        bar = tqdm(
            desc=f"{self.adapter}: {name}",
            total=getattr(stream, "size", None),
            initial=written,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None,  # shown on a terminal only
        )
        with bar:
            while chunk := stream.read(self.block_bytes):
                written += len(chunk)
                if written > max_bytes:
                    raise AdapterRefused(
                        self.adapter,
                        name,
                        "the adapter's files are too large together",
                        f"at most {max_bytes} bytes left for this one",
                        "more",
                    )
                out.write(chunk)
                bar.update(len(chunk))


def _skip_held(stream: BinaryIO, out: BinaryIO) -> int:
    """Skip the bytes that `out` already holds, or empty it if the source cannot skip."""
    held = out.tell()
    if not held:
        return 0
    try:
        return stream.seek(held)
    except (ValueError, OSError):
        out.truncate(0)
        return 0
