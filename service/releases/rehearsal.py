"""Work of versions that no caller waits for, as releases ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from service.engine.kept import Kept


@dataclass(frozen=True, slots=True)
class GoldenProof:
    """Golden examples asked once more; `told` says what was found, without any example."""

    passed: bool
    told: Mapping[str, Any]


class Rehearsal(Protocol):
    """Asks loaded versions in the background class, for no tenant."""

    @property
    def room(self) -> bool:
        """True if the engine has room for background work now."""

    async def repeat(self, exact: str, kept: Kept) -> Kept:
        """The answer of the version that is named exactly to what was kept.

        Raises ServiceError, InvalidRequest for what it cannot take.
        """

    async def prove(self, exact: str) -> GoldenProof | None:
        """The golden proof of a version on the live engine; None without golden examples.

        Raises ServiceError where there was no room or time for it.
        """
