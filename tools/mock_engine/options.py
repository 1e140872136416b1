"""Options of the mock engine, passed to its process in an environment variable."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_VARIABLE = "MOCK_ENGINE"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the engine, beside vLLM's own arguments."""

    rate: str = ""
    """File that holds the tokens per second of each stream, or that number; empty, in the file or
    here, for one step after the other. The file is read again when it changes."""

    cpus: Sequence[int] = ()
    """Cores to run on; empty for those of the parent process."""

    def export(self) -> None:
        """Set the variable, for the processes that are started from now on."""
        os.environ[_VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def inherited(cls) -> "Options":
        """The options that the parent process exported."""
        return cls(**json.loads(os.environ[_VARIABLE]))
