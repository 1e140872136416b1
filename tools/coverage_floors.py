"""The share of lines and branches that the fast tests run, by package, and its floor.

    python -m tools.coverage_floors coverage.json

reads the report of `coverage json`, prints a line for each package of `service`, and ends with 1
where one is below its floor. `make coverage` does all of it.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from tools.command_line import command_line

FLOORS = {
    "service.adapters": 90,
    "service.api": 90,
    "service.batches": 95,
    "service.classification": 95,
    "service.commands": 80,
    "service.encoders": 95,
    "service.engine": 85,
    "service.finetune": 80,
    "service.fleet": 90,
    "service.gate": 95,
    "service.generation": 95,
    "service.limits": 85,  # what xgrammar enforces is tried on the real engine
    "service.model": 70,
    "service.openai": 95,
    "service.proving": 90,
    "service.runtime": 90,
    "service.settings": 95,
    "service.sources": 85,
    "service.telemetry": 90,
    "service.tenants": 95,
    "service.usage": 90,
    "service.vllm": 20,  # it runs in the tests on the real engine
}
"""Percent."""


def covered(report: Path) -> dict[str, float]:
    """Percent of lines and branches that ran, by package."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in files.items():
        parts = Path(name).parent.parts[:2]
        summary = file["summary"]
        count = counts[".".join(parts)]
        count[0] += summary["covered_lines"] + summary["covered_branches"]
        count[1] += summary["num_statements"] + summary["num_branches"]
    return {name: 100 * ran / total for name, (ran, total) in sorted(counts.items()) if total}


def main(report: Path) -> int:
    """Print each package with its floor; returns 1 if one is below its floor or has none."""
    failed = 0
    for name, percent in covered(report).items():
        floor = FLOORS.get(name, 0 if name == "service" else 100)
        failed |= percent < floor
        print(f"{name:24} {percent:5.1f} %  (at least {floor})")
    return failed


if __name__ == "__main__":
    parser = command_line("tools.coverage_floors", __doc__)
    parser.add_argument("report", type=Path, help="report of `coverage json`")
    sys.exit(main(parser.parse_args().report))
