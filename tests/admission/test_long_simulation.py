"""A million requests through the simulator of admission control: `make simulate`.

Each run has a fresh seed. A failure names the seed and the scenario that replay it:

    make simulate OPTIONS="--seed S --scenario K"
"""

import secrets
import sys
import time

import pytest

from tests.admission.simulation.invariants import Violation
from tests.admission.simulation.run import SCENARIO_REQUESTS, Totals, play
from tests.options import check_options, given

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(0)]


def test_every_invariant_holds_over_a_million_requests() -> None:
    parser = check_options("simulate", __doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests in all")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="default: a fresh one")
    parser.add_argument("--scenario", type=int, help="play this one only (to replay a failure)")
    options = given(parser)
    totals, began = Totals(), time.monotonic()
    count = -(-options.requests // SCENARIO_REQUESTS)
    for number in range(count) if options.scenario is None else [options.scenario]:
        try:
            totals.add(play(options.seed, number))
        except Violation as violation:
            again = f'make simulate OPTIONS="--seed {options.seed} --scenario {number}"'
            pytest.fail(f"{violation}\nreplay: {again}", pytrace=False)
        seconds = time.monotonic() - began
        sys.stderr.write(f"\rseed {options.seed}: {totals}, {seconds:.0f} s ")
        sys.stderr.flush()
    sys.stderr.write("\n")
