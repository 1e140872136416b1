"""The tests of one stage of a release: the part that canary and shadow share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from service.releases.comparison import Criterion, Finding, Hits


class Measure(Protocol):
    """One respect in which the versions may differ, and the observations of it."""

    @property
    def criterion(self) -> Criterion: ...

    @property
    def observed(self) -> bool:
        """True once there is an observation."""

    @property
    def statistic(self) -> float:
        """Log of the evidence for harm."""

    @property
    def harmful(self) -> bool:
        """True if harm is shown."""

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """Hits and requests of the old version, if it has a count of its own, and of the new."""

    def copy(self) -> "Measure":
        """The test as it is now."""

    def finding(self) -> Finding:
        """The test for a reader. Takes some milliseconds: do not call it on an event loop."""

    def counts(self) -> Any:
        """The counts as JSON, as `resume` takes them."""

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""


Each = TypeVar("Each", bound=Measure)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a stage: a rollback for `harm`, else the next stage; `rule` is the reason.

    `seen` are findings of the golden proof, which is not one of the tests.
    """

    harm: bool
    rule: str
    tests: Sequence[Measure]
    seen: tuple[Mapping[str, Any], ...] = ()


class Trial(ABC, Generic[Each]):
    """Tests by name, which share their stage's part of alpha."""

    def __init__(self, tests: Iterable[Each]) -> None:
        self._tests = {test.criterion.name: test for test in tests}

    @property
    @abstractmethod
    def answered(self) -> tuple[int, int]:
        """Judged requests of the old and of the new version."""

    def tests(self) -> list[Measure]:
        """Copies of all tests that have seen a request."""
        return [test.copy() for test in self._tests.values() if test.observed]

    def counts(self) -> dict[str, Any]:
        """The counts, as `resume` takes them."""
        return {name: test.counts() for name, test in self._tests.items()}

    def resume(self, counts: Mapping[str, Any]) -> None:
        """Continue from kept counts, if they belong to the same tests."""
        if counts.keys() == self._tests.keys():
            for name, test in self._tests.items():
                test.resume(counts[name])

    def _harm(self, names: Iterable[str]) -> Verdict | None:
        """The verdict of the first of these tests that shows harm."""
        for name in names:
            if self._tests[name].harmful:
                return Verdict(True, name, [self._tests[name].copy()])
        return None
