"""The log of changes of the version behind each name, as a chain of digests."""

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError


class Event(StrEnum):
    """Kinds of changes."""

    CONFIGURED = "configured"
    """The configuration gave the name this version."""
    SHADOW = "shadow"
    """The next version gets, in the background, requests that the old one answers."""
    STEP = "step"
    """The next version answers a share of the requests."""
    FULL = "full"
    """The next version took the old one's place."""
    ROLLED_BACK = "rolled_back"
    """The next version no longer answers, and is not tried again."""
    WITHDRAWN = "withdrawn"
    """The next version was removed from the configuration before the verdict."""
    RETRIED = "retried"
    """A person allows another try of a version that was rolled back."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a name: its author, and the versions before and after.

    `by` is `configuration`, `rule:` and a rule, or `person:` and a name. `after` is None if the
    name is no longer configured; `share` is the share of requests that `after` answers. The log
    sets `number` and `time`, which is UTC in ISO 8601.
    """

    name: str
    event: Event
    by: str
    before: str | None
    after: str | None
    share: float = 1.0
    evidence: tuple[Mapping[str, Any], ...] = ()
    number: int = field(default=0, compare=False)
    time: str = field(default="", compare=False)

    @property
    def begins(self) -> bool:
        """True if a stage begins with it."""
        return self.event in (Event.SHADOW, Event.STEP)

    @property
    def judged(self) -> bool:
        """True if a stage's verdict made it."""
        return self.by.startswith("rule:")


_log = logging.getLogger(__name__)

FILE = "changes.jsonl"
FIRST = "0" * 64
"""The digest that stands in the first line, which has no line before it."""


class ChangeLog:
    """The log in a folder; one process at a time may append to it.

    An `owed` change has taken effect already, and must be written before any other. An incomplete
    last line is cut off. Raises ConfigurationError if the chain of digests is broken or another
    process has the log open.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._writing = threading.Lock()
        self._owed: list[Change] = []
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ConfigurationError(f"releases.path: {self._file}: {error.strerror}") from error
        try:
            self.changes, self.head = self._open()
        except BaseException:
            self.close()
            raise

    def append(self, change: Change) -> Change:
        """Append a change, and return once it is on disk; blocks. Raises OSError."""
        with self._writing:
            self._append_owed()
            return self._append(change)

    def owe(self, change: Change) -> None:
        """Remember a change that has taken effect already; it is written before any other."""
        self._owed.append(change)

    def write_owed(self) -> None:
        """Append owed changes, and return once they are on disk; blocks. Raises OSError."""
        with self._writing:
            self._append_owed()

    def close(self) -> None:
        """Write owed changes if possible, and release the log for other processes.

        Waits for a write that is in progress.
        """
        with self._writing:
            with suppress(OSError):
                self._append_owed()
            os.close(self._descriptor)

    def _append_owed(self) -> None:
        while self._owed:
            self._append(self._owed[0])
            del self._owed[0]

    def _append(self, change: Change) -> Change:
        change, line = sealed(change, len(self.changes) + 1, self.head)
        size = os.fstat(self._descriptor).st_size
        try:
            _write(self._descriptor, line + b"\n")
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        self.changes.append(change)
        self.head = digest_of(line)
        return change

    def _open(self) -> tuple[list[Change], str]:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"releases.path: {self._file}: another process has the log open; every replica "
                "needs a folder of its own"
            ) from error
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            _log.warning("%s: the last line was not complete and is cut off", self._file)
            os.ftruncate(self._descriptor, len(whole))
        return read_chain(_named(self._file), whole.splitlines())


def sealed(change: Change, number: int, head: str) -> tuple[Change, bytes]:
    """A change with its number and the present time, and its line after the line `head`."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    change = replace(change, number=number, time=now)
    return change, json.dumps(asdict(change) | {"previous": head}, sort_keys=True).encode()


def digest_of(line: bytes) -> str:
    """The digest of a line, which the next line has as `previous`."""
    return hashlib.sha256(line).hexdigest()


def read_log(folder: Path) -> tuple[list[Change], str]:
    """The changes of a log and the digest of its last line, even while a service appends to it.

    Raises ConfigurationError for a folder without a log, and for a broken chain.
    """
    file = folder / FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    return read_chain(_named(file), content[: content.rfind(b"\n") + 1].splitlines())


def read_chain(
    place: str, lines: Iterable[bytes], after: int = 0, head: str = FIRST
) -> tuple[list[Change], str]:
    """The changes of lines that follow `after` others, and the digest of the last one.

    Raises ConfigurationError that names the place, and the first line that is changed, missing or
    out of place.
    """
    changes: list[Change] = []
    for number, line in enumerate(lines, after + 1):
        try:
            change, previous = _parsed(line)
        except (ValueError, TypeError, KeyError) as error:
            raise _broken(place, number, f"it is not a change: {type(error).__name__}") from error
        if previous != head:
            raise _broken(place, number, "its `previous` is not the digest of the line before")
        if change.number != number:
            raise _broken(place, number, f"its number is {change.number}")
        changes.append(change)
        head = digest_of(line)
    return changes, head


def _named(file: Path) -> str:
    return f"releases.path: {file}"


def _parsed(line: bytes) -> tuple[Change, str]:
    fields: dict[str, Any] = json.loads(line)
    previous = str(fields.pop("previous"))
    fields["event"] = Event(fields["event"])
    fields["evidence"] = tuple(fields["evidence"])
    return Change(**fields), previous


def _broken(place: str, number: int, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{place}: line {number}: {reason}; the log was changed after it was written. Keep it as "
        "evidence, and restore it or start with an empty one"
    )


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
