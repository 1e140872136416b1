"""The floors of `make coverage`: one for each package, and a report below one fails."""

import json
from pathlib import Path

import pytest

from tools.coverage_floors import FLOORS, main

ROOT = Path(__file__).parents[2]


def report(folder: Path, ran: int) -> Path:
    """A report in which so many of a hundred lines of one module ran."""
    summary = {"covered_lines": ran, "num_statements": 100}
    branches = {"covered_branches": 0, "num_branches": 0}
    file = folder / "coverage.json"
    file.write_text(json.dumps({"files": {"service/http/any.py": {"summary": summary | branches}}}))
    return file


def test_each_package_has_a_floor() -> None:
    packages = {file.parent.name for file in (ROOT / "service").glob("*/__init__.py")}
    assert FLOORS.keys() == {"evaluation", "service", "training"} | {
        f"service.{name}" for name in packages
    }


@pytest.mark.parametrize(("above", "code"), [(0, 0), (-1, 1)])
def test_a_package_below_its_floor_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], above: int, code: int
) -> None:
    floor = FLOORS["service.http"]
    assert main(report(tmp_path, floor + above)) == code
    assert f"{floor + above}.0 %  (at least {floor})" in capsys.readouterr().out
