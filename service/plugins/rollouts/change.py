"""Changes of what a name stands for, as the log keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
    """One change: who or which rule made it, and what the name stood for before and after.

    `by` is `configuration`, `rule:` and a rule, or `person:` and a name. `share` is that of the
    version `after`, which is None once the name is no longer configured. The log sets `number` and
    `time`, which is UTC in ISO 8601.
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
