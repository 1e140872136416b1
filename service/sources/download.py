"""Fetching of files from a source: bounded, resumed, and compared with their digests."""

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.common.files import file_digest
from service.errors import ConfigurationError
from service.sources.source import Source

_LOG = logging.getLogger(__name__)
LINE_EVERY_S = 10.0
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
    """Downloads files into `folder`, in blocks of `block_bytes`.

    `owner` names the adapter or model in messages.
    """

    source: Source
    owner: str
    folder: Path
    block_bytes: int

    def file(
        self, name: str, expected: str | None, max_bytes: int, *, version: str | None = None
    ) -> int:
        """Fetch one file unless it is there, and return its size in bytes.

        A partial file of an earlier try is continued. If the complete file then has the wrong
        digest, the partial file was stale, and the file is fetched again from its start. Without an
        `expected` digest nothing is compared, and only a partial file of the same `version` is
        continued. Raises the source's refusal for a wrong digest or more than `max_bytes`;
        SourceMissing or SourceUnreachable when the source fails, and keeps the part for the next
        try.
        """
        tag = "" if version is None else "." + hashlib.sha256(version.encode()).hexdigest()[:16]
        target, part = self.folder / name, self.folder / f"{name}{tag}{PART}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            resumed = part.exists() and part.stat().st_size > 0
            self._fetch(name, part, max_bytes)
            found = expected and file_digest(part)
            if found != expected and resumed:
                part.unlink()
                self._fetch(name, part, max_bytes)
                found = file_digest(part)
            if found != expected:
                part.unlink()
                raise self.source.refused(
                    self.owner, name, "digest differs at its source", expected, found
                )
            part.replace(target)
        return target.stat().st_size

    def _fetch(self, name: str, part: Path, max_bytes: int) -> None:
        try:
            with self.source.open(name, self.block_bytes) as stream, part.open("ab") as out:
                self._copy(name, stream, out, max_bytes)
                out.flush()
                os.fsync(out.fileno())
        except ConfigurationError:
            raise
        except Exception as error:  # each client has exceptions of its own
            raise self.source.explain(name, error) from error

    def _copy(self, name: str, stream: BinaryIO, out: BinaryIO, max_bytes: int) -> None:
        written, logged = _skip_held(stream, out), time.monotonic()
        total: int | None = getattr(stream, "size", None)
        whole = "" if total is None else f" of {total / 1e6:,.0f}"
        while chunk := stream.read(self.block_bytes):
            written += len(chunk)
            if written > max_bytes:
                reason = f"the {self.source.refused.kind}'s files are too large together"
                limit = f"at most {max_bytes} bytes left for this one"
                raise self.source.refused(self.owner, name, reason, limit, "more")
            out.write(chunk)
            if time.monotonic() >= logged + LINE_EVERY_S:
                logged = time.monotonic()
                _LOG.info("%s: %s: %s%s MB", self.owner, name, f"{written / 1e6:,.0f}", whole)


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
