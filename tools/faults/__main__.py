"""Faults done to a real server under load, many times: `make test-faults`.

    python -m tools.faults [--kills 50 --stops 20 --terms 100 --disconnects 2000]

Prints a line for each fault and each kind. Ends with a traceback if a client hangs or gets a cut
answer.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.served.configuration import SMOLLM2, tiny_config
from tests.served.server import started_server
from tests.served.tiny import build_tiny_model
from tools.command_line import command_line
from tools.faults.disconnects import CLIENTS as LEAVERS
from tools.faults.disconnects import disconnect
from tools.faults.engine import Fault, kill_the_engine, stop_the_engine, terminate


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


def main() -> None:
    """Run the faults and print a line for each kind."""
    parser = command_line("tools.faults", __doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--disconnects", type=int, default=2000, help="clients, 200 at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        build_tiny_model(SMOLLM2, model)
        config = tiny_config(model)
        for fault, times, restart in (
            (disconnect, -(-arguments.disconnects // LEAVERS), False),
            (stop_the_engine, arguments.stops, False),
            (kill_the_engine, arguments.kills, True),
            (terminate, arguments.terms, True),
        ):
            if took := repeat(fault, times, config, restart=restart):
                median, most = statistics.median(took), max(took)
                print(
                    f"{fault.__name__}: {times} times, no client stuck or cut; seconds "
                    f"until all was over: median {median:.2f}, most {most:.2f}"
                )


if __name__ == "__main__":
    main()
