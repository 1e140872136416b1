"""A trial of releases: users ask all that are not decided, in turn."""

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from service.plugins.rollouts.log import Change, Event, read_log
from tests.canaries.kinds import KINDS
from tests.canaries.lines import read_lines
from tests.canaries.outcomes import DECIDED, Outcome, last_change
from tests.canaries.plans import NEXT, Planned
from tests.canaries.requests import User

_POLL_SECONDS = 1.0


class Trial:
    """Asks all releases that are not decided, in turn."""

    def __init__(
        self, url: str, releases: Sequence[Planned], log: Path, options: argparse.Namespace
    ) -> None:
        self._url = url
        self._log = log
        self._options = options
        self._began = time.monotonic()
        self._open = list(releases)
        self._met: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._lines = {kind.adapter: read_lines(kind.adapter) for kind in KINDS.values()}

    def run(self) -> list[Outcome]:
        """The outcomes, in the order of the decisions; what is open at the end comes last."""
        with httpx.Client(base_url=self._url, timeout=300) as client:
            user = User(client, self._options.feedback, self._log)
            with ThreadPoolExecutor(self._options.users) as pool:
                for number in range(self._options.users):
                    pool.submit(self._ask_on, user, random.Random(number))
                try:
                    while self._open and self._seconds() < self._options.seconds:
                        time.sleep(_POLL_SECONDS)
                        self._settle(DECIDED)
                    self._settle(None)
                finally:  # the users ask while one is open
                    with self._lock:
                        self._open.clear()
        return self._outcomes

    def _ask_on(self, user: User, dice: random.Random) -> None:
        while chosen := self._next(dice):
            line = dice.choice(self._lines[KINDS[chosen.kind].adapter])
            try:
                version = user.ask(chosen, line, dice)
            except httpx.HTTPError as error:
                version = f"failed {type(error).__name__}"
            with self._lock:
                self._met[chosen.name, version] += 1

    def _next(self, dice: random.Random) -> Planned | None:
        with self._lock:
            return dice.choice(self._open) if self._open else None

    def _settle(self, ended: Sequence[Event] | None) -> None:
        """Take releases whose last change is one of these, or all, out of those that are asked."""
        changes, _ = read_log(self._log)
        with self._lock:
            for each in list(self._open):
                change = last_change(each.name, changes)
                spent = self._asked(each) >= self._options.limit
                if ended is None or spent or change.event in ended:
                    self._open.remove(each)
                    self._outcomes.append(self._outcome(each, change))
                    print(self._outcomes[-1].row(), flush=True)

    def _outcome(self, each: Planned, change: Change) -> Outcome:
        met = sum(
            count
            for (name, version), count in self._met.items()
            if name == each.name and version.startswith(NEXT)
        )
        return Outcome(each, change, met, self._asked(each), self._seconds())

    @property
    def failed(self) -> int:
        """Requests without a whole answer."""
        return sum(count for (_, version), count in self._met.items() if "failed" in version)

    def _asked(self, each: Planned) -> int:
        return sum(count for (name, _), count in self._met.items() if name == each.name)

    def _seconds(self) -> float:
        return time.monotonic() - self._began
