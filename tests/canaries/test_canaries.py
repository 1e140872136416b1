"""Release successors of the committed adapters on the real engine, and see which go live.

    make canaries OPTIONS="--kinds swapped noise-16 one-label"
    make canaries OPTIONS="--kinds equal --times 7"

One service has a release for each; users with known answers ask all of them in turn until each is
decided, or --limit requests or --seconds are over. Prints a row for each. No bad successor may go
live, no more good ones may be rolled back than --lost, and no request may fail. A poisoned
successor is trained first, once, which takes minutes.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import pytest

from service.plugins.rollouts.log import Event
from tests.canaries.kinds import KINDS
from tests.canaries.outcomes import HEAD
from tests.canaries.plans import configuration, planned, spoil
from tests.canaries.trial import Trial
from tests.options import check_options, given
from tests.served.server import running_server

pytestmark = [pytest.mark.canaries, pytest.mark.timeout(0)]


def test_good_successors_go_live_and_bad_ones_do_not(tmp_path: Path) -> None:
    options = given(_parser())
    releases = planned(options.kinds * options.times)
    config = configuration(tmp_path, releases, _plan(options)) | {
        "slo": {"ttft_ms": options.ttft},
        "cpu": {"cores": options.cores},
    }
    with running_server(tmp_path, config) as server:
        spoil(config, releases)
        print(HEAD, flush=True)
        trial = Trial(server.url, releases, Path(config["releases"]["path"]), options)
        outcomes = trial.run()
    wrong = [each for each in outcomes if not each.right]
    lost = sum(
        KINDS[each.planned.kind].good and each.change.event == Event.ROLLED_BACK for each in wrong
    )
    missed = [each.planned.name for each in wrong if not KINDS[each.planned.kind].good]
    print(f"{len(outcomes)} releases, {lost} good ones rolled back, not rolled back: {missed}")
    full = [each.asked for each in outcomes if each.change.event == Event.FULL]
    if full:
        print(f"{len(full)} are full, after {statistics.median(full):g} requests in the median")
    print(f"requests that failed: {trial.failed}")
    assert (missed, trial.failed) == ([], 0)
    assert lost <= options.lost


def _parser() -> argparse.ArgumentParser:
    parser = check_options("canaries", __doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--times", type=int, default=1, help="releases of each kind")
    parser.add_argument("--requests", type=int, nargs=2, default=[40, 80], help="of both steps")
    parser.add_argument("--feedback", type=float, default=0.5, help="share of answers to rate")
    parser.add_argument("--ttft", type=float, default=2000, help="objective of TTFT in ms")
    parser.add_argument("--cores", default="all", help="of the engine; on a busy machine take one")
    parser.add_argument("--users", type=int, default=8, help="who ask at one time")
    parser.add_argument("--limit", type=int, default=1000, help="requests to a release, at most")
    parser.add_argument("--seconds", type=float, default=1800, help="time for all, at most")
    parser.add_argument("--lost", type=int, default=1, help="good ones that may be rolled back")
    return parser


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    steps = [
        {"share": share, "requests": requests}
        for share, requests in zip((0.3, 0.5), options.requests, strict=True)
    ]
    return {"sticky": "request", "canary": steps}
