"""Counts of the running stages, stored beside the log so that a restart continues with them.

Otherwise each restart would begin the tests anew, with the whole error budget.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.common.files import write_atomically
from service.plugins.rollouts.standing import Stage

_log = logging.getLogger(__name__)
FILE = "counts.json"


class KeptCounts:
    """The file of counts in the log's folder; only those of the present stage are used."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._kept = self._read()
        self._written = b""

    def resume(self, name: str, stage: Stage[Any]) -> None:
        """Restore a stage's stored counts, if there are any."""
        since, counts = self._kept.get(name, (0, {}))
        if since == stage.since:
            stage.trial.resume(counts)

    def collect(self, stages: Mapping[str, Stage[Any]]) -> bytes | None:
        """The content to write; None if it is written already."""
        self._kept = {name: (each.since, each.trial.counts()) for name, each in stages.items()}
        content = json.dumps(self._kept).encode()
        return None if content == self._written else content

    def write(self, content: bytes) -> None:
        """Write the counts to disk; blocks. Raises OSError."""
        write_atomically(self._file, content, mode=0o600)
        self._written = content

    def _read(self) -> dict[str, tuple[int, dict[str, Any]]]:
        try:
            found = json.loads(self._file.read_bytes())
            return {name: (int(since), dict(counts)) for name, (since, counts) in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s: cannot be read, the counts begin at 0: %s", self._file, error)
            return {}
