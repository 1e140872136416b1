"""Simulate the gate's core and check its invariants: `make simulate`.

python -m tools.simulation --requests 1000000 --seed S [--scenario K]
"""

import argparse
import secrets
import sys
import time

from tools.command_line import command_line
from tools.simulation.invariants import Violation
from tools.simulation.run import SCENARIO_REQUESTS, Totals, play


def _parse() -> argparse.Namespace:
    parser = command_line("tools.simulation", __doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests in all")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="default: a fresh one")
    parser.add_argument("--scenario", type=int, help="play this one only (to replay a failure)")
    return parser.parse_args()


def main() -> int:
    """Run; 0 if every invariant held, 1 with the line that replays the failure."""
    arguments = _parse()
    totals = Totals()
    began = time.monotonic()
    count = -(-arguments.requests // SCENARIO_REQUESTS)
    numbers = range(count) if arguments.scenario is None else [arguments.scenario]
    for number in numbers:
        try:
            totals.add(play(arguments.seed, number))
        except Violation as violation:
            sys.stderr.write(
                f"\n{violation}\nreplay: python -m tools.simulation"
                f" --seed {arguments.seed} --scenario {number}\n"
            )
            return 1
        sys.stderr.write(f"\rseed {arguments.seed}: {totals}, {time.monotonic() - began:.0f} s ")
        sys.stderr.flush()
    sys.stderr.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
