"""Random requests and random bytes against the one-layer model on the real engine: `make fuzz`.

    make fuzz OPTIONS="--requests 100000 --bytes 10000 --seed 2"

Request n of a seed is always the same, and a failure names both. Prints the outcomes, the worst
lag of the event loop, the longest gap of a stream beside, and the memory; before, the dearest mask
that a search among random schemas finds. Fails where an answer is wrong, a status is a 5xx, the
service's own work may have held the loop for longer than --lag milliseconds, or a mask takes longer
than the engine allows.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import batches, moderations, requests, schemas, wire
from tests.fuzz.watch import watched
from tests.options import check_options, given
from tests.served.configuration import SMALL_ENCODER, tiny_config
from tests.served.server import Server, running_server
from tests.served.tiny import build_tiny_model
from tests.served.tiny_encoder import build_tiny_encoder

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]

_PARTS = 20
_ERRORS = 20


async def fuzz(server: Server, options: argparse.Namespace) -> float:
    """Send both kinds and print the findings; the longest that the service held the loop."""
    host, port = server.url.removeprefix("http://").split(":")
    async with watched(server) as watch:
        with failures_told(server):
            every = max(1, options.requests // _PARTS)
            told(await requests.fuzz(server.url, options.requests, options.seed, every=every))
            print(watch.report(), flush=True)
            if options.lines:
                told(await batches.fuzz(server.url, options.lines, options.seed))
                print(watch.report(), flush=True)
            every = max(1, options.bytes // _PARTS)
            told(await wire.fuzz(host, int(port), options.bytes, options.seed, every=every))
            print(watch.report(), flush=True)
        return watch.worst_own_lag()


@contextmanager
def failures_told(server: Server) -> Iterator[None]:
    """Print the errors in the service's log if the block fails."""
    try:
        yield
    except BaseException:
        lines = server.log.read_text().splitlines()
        print(*[line for line in lines if '"level":"error"' in line][-_ERRORS:], sep="\n")
        raise


def told(outcomes: Counter[str]) -> None:
    """Print outcomes, the most frequent first."""
    for outcome, count in outcomes.most_common():
        print(f"{count:7} {outcome}")


def test_every_request_is_answered_whole_or_refused_with_a_reason(tmp_path: Path) -> None:
    parser = check_options("fuzz", __doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="JSON requests to all routes")
    parser.add_argument("--bytes", type=int, default=2_000, help="raw byte sequences")
    parser.add_argument("--lines", type=int, default=200, help="lines of a batch")
    parser.add_argument("--search", type=float, default=120, help="seconds of the search for masks")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other requests")
    parser.add_argument("--lag", type=float, default=50, help="milliseconds")
    parser.add_argument(
        "--model", type=Path, default=Path(".cache/models/smollm2-135m-instruct"), help="tokenizer"
    )
    options = given(parser)
    dear = options.search > 0 and schemas.search(options.model, options.search, options.seed)
    with running_server(tmp_path, configuration(tmp_path, options.model)) as server:
        assert asyncio.run(fuzz(server, options)) <= options.lag / 1000
    assert not dear, "a mask takes longer than the engine allows"


def configuration(folder: Path, tokenizer: Path) -> dict[str, Any]:
    """The settings of the one-layer model and an encoder of labels, written into the folder."""
    model, encoder = folder / "model", folder / "encoder"
    build_tiny_model(tokenizer, model)
    build_tiny_encoder(encoder, ["harmless", "harmful"])
    guard = {"model": "labels", "labels": ["harmful"], "threshold": 0.5}
    return tiny_config(model, max_num_seqs=16) | {
        # Other work on the machine slows the engine, so long waits are allowed here.
        "admission": {
            "max_queued": 1024,
            "max_wait_ms": 600_000,
            "default_timeout_ms": 600_000,
            "max_timeout_ms": 600_000,
        },
        "batches": {"path": str(folder / "batches")},
        "encoders": [{"name": "labels", "path": str(encoder), "engine": SMALL_ENCODER}],
        "guards": {"named": {moderations.GUARD: guard}},
    }
