"""Requests to loaded versions that releases make themselves, and that no caller waits for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from service.context.kept import Kept


@dataclass(frozen=True, slots=True)
class GoldenProof:
    """Result of golden examples that were asked again; `told` has the figures and no example."""

    passed: bool
    told: Mapping[str, Any]


class Rehearsal(Protocol):
    """Asks loaded versions as background work, which no tenant pays for."""

    @property
    def room(self) -> bool:
        """True if the engine has room for background work now."""

    @property
    def busy(self) -> bool:
        """True if requests of callers run now."""

    async def repeat(self, exact: str, kept: Kept) -> Kept:
        """The answer to a kept request of the version with the exact name `exact`.

        Raises InvalidRequest if the version does not accept the request, else ServiceError.
        """

    async def prove(self, exact: str) -> GoldenProof | None:
        """The golden proof of a version on the live engine; None without golden examples.

        Raises ServiceError where there was no room or time for it.
        """
