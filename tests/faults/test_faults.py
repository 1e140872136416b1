"""Faults done to a real server under load, many times: `make test-faults`, over an hour.

    make test-faults OPTIONS="--kills 5 --stops 2 --terms 10 --disconnects 200"

Prints a line for each fault and each kind. No client may hang or get a cut answer.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disconnects import CLIENTS as LEAVERS
from tests.faults.disconnects import disconnect
from tests.faults.engine import Fault, kill_the_engine, stop_the_engine, terminate
from tests.options import check_options, given
from tests.served.configuration import SMOLLM2, tiny_config
from tests.served.server import started_server
from tests.served.tiny import build_tiny_model

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]


def repeat(fault: Fault, times: int, config: dict[str, Any], *, restart: bool) -> list[float]:
    """Cause a fault so many times, each in a new server or all in one; the seconds of each."""
    took: list[float] = []
    while len(took) < times:
        with (
            tempfile.TemporaryDirectory() as folder,
            started_server(Path(folder), config) as server,
        ):
            for _ in range(1 if restart else times):
                took.append(asyncio.run(fault(server)))
                print(f"{fault.__name__} {len(took)}/{times}: {took[-1]:.2f} s", flush=True)
    return took


def test_faults_leave_no_client_stuck_or_cut(tmp_path: Path) -> None:
    parser = check_options("test-faults", __doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--disconnects", type=int, default=2000, help="clients, 200 at a time")
    options = given(parser)
    build_tiny_model(SMOLLM2, tmp_path / "model")
    config = tiny_config(tmp_path / "model")
    for fault, times, restart in (
        (disconnect, -(-options.disconnects // LEAVERS), False),
        (stop_the_engine, options.stops, False),
        (kill_the_engine, options.kills, True),
        (terminate, options.terms, True),
    ):
        if took := repeat(fault, times, config, restart=restart):
            median, most = statistics.median(took), max(took)
            print(
                f"{fault.__name__}: {times} times, no client stuck or cut; seconds "
                f"until all was over: median {median:.2f}, most {most:.2f}"
            )
