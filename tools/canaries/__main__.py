"""Release successors of the committed adapters on the real engine, and see which go live.

    python -m tools.canaries --kinds swapped noise-16 one-label
    python -m tools.canaries --kinds equal --times 7

One service has a release for each; users with known answers ask all of them in turn until each is
decided, or --limit requests or --seconds are over. Prints a row for each, and ends with 1 if a bad
successor is not rolled back or more good ones are than --lost.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from loadtests.processes import unwind_on_sigterm
from tools.canaries.outcomes import DECIDED, HEAD, Outcome, evidence_of, read_releases
from tools.canaries.plans import NEXT, Planned, configuration, planned
from tools.canaries.requests import User, read_lines
from tools.canaries.successors import KINDS
from tools.served.server import Server, running_server

_AT_ONCE = 8
_POLL_SECONDS = 1.0


class Trial:
    """Asks all releases that are not decided, in turn."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self._server = server
        self._options = options
        self._began = time.monotonic()
        self._open = planned(options.kinds * options.times)
        self._met: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._lines = {kind.adapter: read_lines(kind.adapter) for kind in KINDS.values()}

    def run(self) -> list[Outcome]:
        """The outcomes, in the order of the decisions; what is open at the end comes last."""
        with httpx.Client(base_url=self._server.url, timeout=300) as client:
            user = User(client, self._options.feedback)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for number in range(_AT_ONCE):
                    pool.submit(self._ask_on, user, random.Random(number))
                while self._open and self._seconds() < self._options.seconds:
                    time.sleep(_POLL_SECONDS)
                    self._settle(DECIDED)
                self._settle(None)
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

    def _settle(self, states: Sequence[str] | None) -> None:
        """Take releases in these states, or all, out of those that are asked."""
        found, changes = read_releases(self._server.ops)
        with self._lock:
            for each in list(self._open):
                spent = self._asked(each) >= self._options.limit
                if states is None or spent or found[each.name] in states:
                    self._open.remove(each)
                    self._outcomes.append(self._outcome(each, found[each.name], changes))
                    print(self._outcomes[-1].row(), flush=True)

    def _outcome(self, each: Planned, state: str, changes: Sequence[Mapping[str, Any]]) -> Outcome:
        rule, evidence = evidence_of(each.name, changes)
        met = sum(
            count
            for (name, version), count in self._met.items()
            if name == each.name and version.startswith(NEXT)
        )
        return Outcome(each, state, rule, evidence, met, self._asked(each), self._seconds())

    def _asked(self, each: Planned) -> int:
        return sum(count for (name, _), count in self._met.items() if name == each.name)

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def main() -> int:
    """Parse the command line, release, and judge; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--times", type=int, default=1, help="releases of each kind")
    parser.add_argument("--requests", type=int, nargs=2, default=[40, 80], help="of both steps")
    parser.add_argument("--shadow", type=int, default=0, help="pairs of a shadow before them")
    parser.add_argument("--feedback", type=float, default=0.5, help="share of answers to rate")
    parser.add_argument("--limit", type=int, default=1000, help="requests to a release, at most")
    parser.add_argument("--seconds", type=float, default=1800, help="time for all, at most")
    parser.add_argument("--lost", type=int, default=1, help="good ones that may be rolled back")
    options = parser.parse_args()
    unwind_on_sigterm()
    steps = [
        {"share": share, "requests": requests}
        for share, requests in zip((0.3, 0.5), options.requests, strict=True)
    ]
    with tempfile.TemporaryDirectory() as name:
        releases = planned(options.kinds * options.times)
        config = configuration(Path(name), releases, steps, options.shadow)
        with running_server(Path(name), config) as server:
            print(HEAD, flush=True)
            outcomes = Trial(server, options).run()
    wrong = [each for each in outcomes if not each.right]
    lost = sum(KINDS[each.planned.kind].good and each.state == "rolled_back" for each in wrong)
    missed = [each.planned.name for each in wrong if not KINDS[each.planned.kind].good]
    print(f"{len(outcomes)} releases, {lost} good ones rolled back, not rolled back: {missed}")
    return int(lost > options.lost or bool(missed))


if __name__ == "__main__":
    sys.exit(main())
