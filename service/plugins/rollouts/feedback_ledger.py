"""Tallies, levels and rated answers, kept in a file so that a restart goes on with them."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from service.common.files import write_atomically
from service.errors import ConfigurationError
from service.plugins.rollouts.seen_ids import SeenIds
from service.plugins.rollouts.tally import Tally

_log = logging.getLogger(__name__)
FILE = "feedback.json"
MOST_VERSIONS = 256


class Version(NamedTuple):
    """A version of an adapter, by its configured name."""

    adapter: str
    version: str


class FeedbackLedger:
    """The present sums; in a folder, also those from before the start.

    `levels` are conformal ones, by the version's name in the engine. Of more than MOST_VERSIONS
    versions the one that was rated first is forgotten.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / FILE
        self.tallies: dict[Version, Tally] = {}
        self.levels: dict[str, float] = {}
        self.seen = SeenIds()
        self._changed = False
        if self._file is not None and self._file.exists():
            try:
                self.tallies, self.levels, self.seen = _read(self._file)
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("%s: not read, feedback counts anew: %s", self._file, error)

    def tally(self, version: Version) -> Tally:
        """The tally of a version, to be counted on."""
        self._changed = True
        _make_room(self.tallies, version)
        return self.tallies.setdefault(version, Tally())

    def move(self, version: str, level: float) -> None:
        """Keep the level that a version has now."""
        self._changed = True
        _make_room(self.levels, version)
        self.levels[version] = level

    def collect(self) -> bytes | None:
        """The content to write; None if nothing changed or there is no folder."""
        if self._file is None or not self._changed:
            return None
        self._changed = False
        tallies = [[*version, tally.kept()] for version, tally in self.tallies.items()]
        kept = {"tallies": tallies, "levels": self.levels, "rated": self.seen.kept()}
        return json.dumps(kept).encode()

    def write(self, content: bytes) -> None:
        """Have the sums on disk; blocks meanwhile. Raises OSError."""
        assert self._file is not None
        try:
            write_atomically(self._file, content, mode=0o600)
        except OSError:
            self._changed = True
            raise


def read_tallies(folder: Path) -> Mapping[Version, Tally]:
    """The tallies that a service keeps in a folder; raises ConfigurationError if it cannot."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder")
    file = folder / FILE
    try:
        return _read(file)[0] if file.exists() else {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{file}: not a file of feedback: {error}") from error


def told(tallies: Mapping[Version, Tally]) -> list[dict[str, Any]]:
    """The figures of each version as JSON."""
    return [version._asdict() | tally.told() for version, tally in tallies.items()]


def _make_room(kept: dict[Any, Any], version: Any) -> None:
    """Forget the version that came first, if one more were too many."""
    if version not in kept and len(kept) >= MOST_VERSIONS:
        del kept[next(iter(kept))]


def _read(file: Path) -> tuple[dict[Version, Tally], dict[str, float], SeenIds]:
    found = json.loads(file.read_bytes())
    tallies = {Version(name, version): Tally(**sums) for name, version, sums in found["tallies"]}
    return tallies, dict(found.get("levels", {})), SeenIds(found.get("rated", {}))
