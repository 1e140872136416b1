"""Thousands of requests alone and then all at once: `make neighbours`, half an hour.

make neighbours OPTIONS="--model tiny --requests 2000"
"""

from collections import Counter

import pytest

from tests.neighbours.models import check, served
from tests.options import check_options, given

pytestmark = [pytest.mark.neighbours, pytest.mark.timeout(0)]

_REQUESTS = {"tiny": 6_000, "smollm2": 1_000}


def test_no_neighbour_changes_an_answer() -> None:
    parser = check_options("neighbours", __doc__)
    parser.add_argument("--model", choices=_REQUESTS, help="default: one after the other")
    parser.add_argument("--requests", type=int, help=f"default {_REQUESTS}")
    parser.add_argument("--first", type=int, default=0, help="number of the first request")
    options = given(parser)
    for model in [options.model] if options.model else _REQUESTS:
        _compare(model, options.requests or _REQUESTS[model], options.first)


def _compare(model: str, count: int, first: int) -> None:
    """Ask each request alone, then all at once, and compare."""
    with served(model) as (server, maker, comparison):
        requests = [maker.request(first + number) for number in range(count)]
        changes = check(server, requests, comparison)
    paths = Counter(request.path for request in requests)
    print(", ".join(f"{count} {path}" for path, count in sorted(paths.items())))
    print(
        f"{comparison.compared} answers, {comparison.places} places; changed: {len(changes)}; "
        f"parted at close tokens: {comparison.parted}; widest difference {comparison.widest:.2g}"
    )
    assert not changes, "\n".join(changes[:20])
