"""The one interface of the stores that keep the state of releases and of feedback.

`folder_store.FolderStore` keeps it for one replica, `shared_store.SharedStore` for all replicas of
a fleet. All calls of a store raise Unavailable while it cannot be read or written.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from service.plugins.rollouts.feedback_ledger import Rated, Tally, Version
from service.plugins.rollouts.log import Change
from service.plugins.rollouts.standing import Stage

Stages = Mapping[str, Stage[Any]]
"""The running stages by the name of the adapter."""
Users = Mapping[str, set[str]]
"""The tenants that have asked for each name."""


class Outrun(Exception):
    """Another replica changed the log first, so the change may not be due; nothing was written."""


class LeaseLost(Exception):
    """Another replica judges this release now; nothing was written."""


class Heard(NamedTuple):
    """What a store brought: whether the log changed, and which changes of this process it has
    written without an answer until now."""

    changed: bool = False
    own: Sequence[Change] = ()


class Store(Protocol):
    """The log of changes, the counts of running stages, and the ratings of answers.

    `shared` is true if other replicas write into it too; `pause_seconds` is the time between two
    calls of `sync`. `key` encrypts the ids of answers.
    """

    shared: bool
    pause_seconds: float
    key: bytes

    @property
    def changes(self) -> Sequence[Change]:
        """The log, as far as this process knows it."""

    @property
    def head(self) -> str:
        """The digest of the log's last line."""

    @property
    def levels(self) -> Mapping[str, float]:
        """Conformal levels by the version's name in the engine."""

    async def refresh(self) -> Heard:
        """Read what other replicas wrote; at the start, wait for a while until the store can."""

    async def commit(self, changes: Sequence[Change], effect: Callable[[Change], None]) -> None:
        """Write changes in their order; `effect` is called with each when it takes effect.

        Raises Outrun, or LeaseLost for a verdict, if replicas share the store.
        """

    def resume(self, name: str, stage: Stage[Any]) -> None:
        """Begin a stage with what is stored of it; a shared store brings this with `sync`."""

    async def sync(self, stages: Stages, users: Users) -> Heard:
        """Store what the stages have counted.

        A shared store adds it to what others counted, gives the stages the sums, and says which of
        them this replica judges.
        """

    async def rate(self, rated: Rated) -> Tally:
        """Count a rating; returns the tally of the version that answered.

        Raises Conflict for an answer that was rated already, InvalidRequest for one that is too
        old.
        """

    async def tallies(self) -> Mapping[Version, Tally]:
        """The tallies of all versions, the last known ones while they cannot be read."""

    async def leave(self, stages: Stages, users: Users) -> None:
        """Hand over to other replicas, because this one ends."""

    def close(self, stages: Stages) -> None:
        """Write what is not written yet, as far as possible, and close files; blocks."""
