"""The share of lines and branches that the fast tests run, by package, and its floor.

    python -m tools.coverage_floors coverage.json

reads the report of `coverage json`, prints a line for each package, and ends with 1 where one is
below its floor. `make coverage` does all of it.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from tools.command_line import command_line

FLOORS = {
    "evaluation": 80,
    "service": 90,
    "service.adapters": 90,
    "service.admission": 95,
    "service.classification": 95,
    "service.cli": 80,
    "service.common": 95,
    "service.context": 95,
    "service.engine": 85,
    "service.generation": 95,
    "service.http": 90,
    "service.limits": 85,  # what xgrammar enforces is tried on the real engine
    "service.models": 70,
    "service.openai": 95,
    "service.plugins": 90,
    "service.routes": 90,
    "service.runtime": 90,
    "service.schemas": 90,
    "service.settings": 95,
    "service.sources": 85,
    "service.telemetry": 90,
    "service.tenants": 95,
    "service.vllm": 20,  # it runs in the tests on the real engine
    "training": 80,
}
"""Percent; `service` are the modules beside its packages."""


def covered(report: Path) -> dict[str, float]:
    """Percentage of lines and branches that ran, by package."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in files.items():
        parts = Path(name).parent.parts
        parts = parts[: 2 if parts[0] == "service" else 1]
        summary = file["summary"]
        count = counts[".".join(parts)]
        count[0] += summary["covered_lines"] + summary["covered_branches"]
        count[1] += summary["num_statements"] + summary["num_branches"]
    return {name: 100 * ran / total for name, (ran, total) in sorted(counts.items()) if total}


def main(report: Path) -> int:
    """Print each package with its floor; returns 1 if one is below its floor."""
    failed = 0
    for name, percent in covered(report).items():
        failed |= percent < FLOORS[name]
        print(f"{name:24} {percent:5.1f} %  (at least {FLOORS[name]})")
    return failed


if __name__ == "__main__":
    parser = command_line("tools.coverage_floors", __doc__)
    parser.add_argument("report", type=Path, help="report of `coverage json`")
    sys.exit(main(parser.parse_args().report))
