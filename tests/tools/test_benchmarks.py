"""The page of the benchmarks shows the figures of docs/data, and every figure has its run."""

from pathlib import Path

import pytest

from tools import benchmarks
from tools.benchmarks import DATA, rows, table

NAMES = sorted(file.stem for file in DATA.glob("*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_names_a_run(name: str) -> None:
    known = {row["run"] for row in rows("runs")}
    assert {row["run"] for row in rows(name)} <= known
    assert all(None not in row and None not in row.values() for row in rows(name))


def test_every_run_has_figures() -> None:
    kept = {row["run"] for name in NAMES if name != "runs" for row in rows(name)}
    told = {"fuzz", "telemetry", "advisories", "soak"}  # figures that stand in their notes
    assert {row["run"] for row in rows("runs")} == kept | told


def test_a_cell_shows_two_figures_and_the_ratio_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "DATA", tmp_path)
    monkeypatch.setattr(benchmarks, "TABLES", {"x": {"": "kind", "CPU": "a / b", "MB": "c / b"}})
    (tmp_path / "x.csv").write_text(
        "shown,kind,a,a_ratio,b,c,run\n1,chat,1500.4,0.56,3000,6000,r\n,left out,1,1,1,1,r\n"
    )
    chat = "| chat | 1,500/3,000 (0.56) | 6,000/3,000 (2.00) |"
    assert table("x").splitlines()[2:] == [chat, "", "Run: [r](data/runs.csv)."]
    with (tmp_path / "x.csv").open("a") as file:
        file.write("1,label,1,,2,3,other\n")
    assert table("x").splitlines()[2:] == [
        f"{chat} [r](data/runs.csv) |",
        "| label | 1/2 (0.50) | 3/2 (1.50) | [other](data/runs.csv) |",
    ]


def test_the_charts_have_the_figures_of_their_files() -> None:
    goodput = benchmarks.CHARTS["goodput"].groups()
    assert list(goodput) == ["x0.5", "x1", "x2", "x5", "x0.6"]
    assert goodput["x5"]["this service"] == pytest.approx(16.30 * 0.152)
    for name, chart in benchmarks.CHARTS.items():
        series = [list(bars) for bars in chart.groups().values()]
        assert all(each == series[0] for each in series), name
