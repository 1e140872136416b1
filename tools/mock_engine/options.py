"""Options of the mock engine, which reach its process in an environment variable."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_VARIABLE = "MOCK_ENGINE"


@dataclass(frozen=True, slots=True)
class Options:
    """What the engine is told, beside vLLM's own arguments."""

    rate: float | None = None
    """Tokens per second of each stream; None for one step after the other."""

    cpus: Sequence[int] = ()
    """Cores to keep to; none for those that were inherited."""

    def export(self) -> None:
        """Set the variable, for the processes that are started from now on."""
        os.environ[_VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def inherited(cls) -> "Options":
        """The options that the parent process exported."""
        return cls(**json.loads(os.environ[_VARIABLE]))
