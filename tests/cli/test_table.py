"""Tables of the commands: whole cells, however narrow the terminal is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.common.command_line import print_table

ADAPTERS = Path(__file__).parents[2] / "deploy" / "local" / "adapters"


def test_a_narrow_terminal_cuts_no_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("batch", "status"), [("batch_0123456789abcdef", "in_progress"), ("b", "failed")])

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["batch", "status"],
        ["batch_0123456789abcdef", "in_progress"],
        ["b", "failed"],
    ]


def test_a_wide_terminal_has_lines_between_the_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("batch",), [("b",)])

    assert "│ b     │" in capsys.readouterr().out


def test_the_list_of_adapters_names_each_in_full() -> None:
    shown = CliRunner().invoke(app, ["adapters", "list", str(ADAPTERS)], env={"COLUMNS": "40"})

    assert {each.name for each in ADAPTERS.iterdir()} <= {*shown.stdout.split()}
    assert "…" not in shown.stdout
