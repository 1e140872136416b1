"""Fairness and locality of fleets from 4 to 1,000 replicas, simulated: `make simulate-fleet`.

    make simulate-fleet OPTIONS="--replicas 4 16"

Prints a table, and with `--write` (which make gives) writes it into docs/howto/scale-out.md. The
seed is fixed. All sizes take some minutes of one core.
"""

import sys
from pathlib import Path

import pytest

from tests.admission.simulation.fleet import Fleet, Policy, Result, load
from tests.options import check_options, given
from tools.markdown_pages import page_with

_PAGE = Path("docs/howto/scale-out.md")
_SEED = 1
_SECONDS = {4: 120.0, 16: 90.0, 1000: 12.0}
_ONE = "one queue for all"
_POLICIES = {
    _ONE: Policy("one"),
    "in turns, each fair alone": Policy("turns"),
    "in turns, counters shared each second": Policy("turns", 1.0),
    "by connection, each fair alone": Policy("connections"),
    "by connection, counters shared each second": Policy("connections", 1.0),
    "by prefix, each fair alone": Policy("prefix"),
    "by prefix, counters shared each second": Policy("prefix", 1.0),
}


@pytest.mark.simulation
@pytest.mark.timeout(0)
def test_fleets() -> None:
    parser = check_options("simulate-fleet", __doc__)
    parser.add_argument("--replicas", type=int, nargs="+", choices=_SECONDS, default=[*_SECONDS])
    parser.add_argument("--write", action="store_true", help="write docs/howto/scale-out.md")
    options = given(parser)
    fleets = [_played(replicas) for replicas in options.replicas]
    lines = [
        f"| requests go | {' | '.join(f'{replicas:,}' for replicas in options.replicas)} |",
        "| --- |" + " --- |" * len(fleets),
    ]
    for name in _POLICIES:
        cells = (_cell(found[name], found[_ONE]) for found in fleets)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join([*lines, ""]))
    if options.write:
        _PAGE.write_text(page_with(_PAGE, "fleets", "\n".join(lines)), encoding="utf-8")


def _cell(each: Result, one: Result) -> str:
    """Jain's index, throughput against one queue, and the p99 of a light tenant's wait in s."""
    return f"{each.jain:.3f}, {each.tokens / one.tokens:.2f}, {each.light_wait:.2f}"


def _played(replicas: int) -> dict[str, Result]:
    seconds = _SECONDS[replicas]
    asks, found = load(replicas, seconds, _SEED), {}
    for name, policy in _POLICIES.items():
        sys.stderr.write(f"\r{replicas} replicas: {name:60}")
        found[name] = Fleet(replicas, policy).play(asks, seconds)
    sys.stderr.write("\n")
    return found


def test_shared_counters_are_fairer_than_each_alone() -> None:
    asks = load(4, 60.0, _SEED)
    alone = Fleet(4, Policy("connections")).play(asks, 60.0)
    shared = Fleet(4, Policy("connections", 1.0)).play(asks, 60.0)
    one = Fleet(4, Policy("one")).play(asks, 60.0)
    assert alone.jain < shared.jain < one.jain
    assert shared.tokens > 0.95 * alone.tokens
