"""The state of releases and of feedback for one replica: in a folder, or in memory without one."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.common.files import make_local, write_atomically
from service.errors import Unavailable
from service.plugins.rollouts.answer_ids import kept_key
from service.plugins.rollouts.feedback_ledger import FeedbackLedger, Rated, Tally, Version
from service.plugins.rollouts.log import FIRST, Change, ChangeLog, Event
from service.plugins.rollouts.standing import Stage
from service.plugins.rollouts.store import Heard, Stages, Users

_log = logging.getLogger(__name__)

COUNTS = "counts.json"
_RETRY_SECONDS = 5.0


class FolderStore:
    """Implements `store.Store` in a folder, which one process at a time may use.

    A rollback takes effect before it is written, because nobody else decides, and a full disk must
    not keep a bad version. Counts and ratings are written with each `sync`, so that a restart does
    not begin the tests anew with the whole error budget. Without a folder nothing is written, and
    there are no releases. Raises ConfigurationError for a folder that cannot be used.
    """

    shared = False
    pause_seconds = 5.0

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            make_local("releases.path", folder)
        self.key = kept_key(folder)
        self.feedback = FeedbackLedger(folder)
        self.log = None if folder is None else ChangeLog(folder)
        self._counts = None if folder is None else folder / COUNTS
        self._kept: dict[str, Any] = {} if self._counts is None else _read_counts(self._counts)
        self._written = b""

    @property
    def changes(self) -> Sequence[Change]:
        """The log."""
        return () if self.log is None else self.log.changes

    @property
    def head(self) -> str:
        """The digest of the log's last line."""
        return FIRST if self.log is None else self.log.head

    @property
    def levels(self) -> Mapping[str, float]:
        """Conformal levels by the version's name in the engine."""
        return self.feedback.levels

    async def refresh(self) -> Heard:
        return Heard()

    async def commit(self, changes: Sequence[Change], effect: Callable[[Change], None]) -> None:
        assert self.log is not None
        for change in changes:
            if change.event is Event.ROLLED_BACK:
                self.log.owe(change)
                effect(change)
        try:
            await asyncio.to_thread(self.log.write_owed)
            for change in changes:
                if change.event is not Event.ROLLED_BACK:
                    effect(await asyncio.to_thread(self.log.append, change))
        except OSError as error:
            raise Unavailable(
                f"The log of releases cannot be written now ({error.strerror}). A rollback has "
                "taken effect, and is written later; nothing else is changed.",
                code="store_unavailable",
                retry_after=_RETRY_SECONDS,
            ) from error

    def resume(self, name: str, stage: Stage[Any]) -> None:
        since, counts = self._kept.get(name, (0, {}))
        if since == stage.since:
            stage.trial.resume(counts)

    async def sync(self, stages: Stages, users: Users) -> Heard:
        counts, ratings = self._collect(stages), self.feedback.collect()
        try:
            await asyncio.to_thread(self._write, counts, ratings)
        except OSError as error:
            raise Unavailable(f"counts cannot be written: {error}") from error
        return Heard()

    async def rate(self, rated: Rated) -> Tally:
        return self.feedback.rate(rated)

    async def tallies(self) -> Mapping[Version, Tally]:
        return self.feedback.tallies

    async def leave(self, stages: Stages, users: Users) -> None:
        """Nothing: `close` writes what is left."""

    def close(self, stages: Stages) -> None:
        for work in (self._collect(stages), None), (None, self.feedback.collect()):
            with suppress(OSError):
                self._write(*work)
        if self.log is not None:
            self.log.close()

    def _collect(self, stages: Stages) -> bytes | None:
        """The counts to write; None if they are written already."""
        if self._counts is None:
            return None
        self._kept = {name: (each.since, each.trial.counts()) for name, each in stages.items()}
        content = json.dumps(self._kept).encode()
        return None if content == self._written else content

    def _write(self, counts: bytes | None, ratings: bytes | None) -> None:
        if ratings is not None:
            self.feedback.write(ratings)
        if counts is not None:
            assert self._counts is not None
            write_atomically(self._counts, counts, mode=0o600)
            self._written = counts


def _read_counts(file: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    try:
        found = json.loads(file.read_bytes())
        return {name: (int(since), dict(counts)) for name, (since, counts) in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        _log.warning("%s: cannot be read, the counts begin at 0: %s", file, error)
        return {}
