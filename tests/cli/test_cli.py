"""The command line's messages; what it serves is tested elsewhere."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_configuration_problem_is_one_message_and_exit_code_2(
    tmp_path: Path, options: list[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {name: base, path: x}\nhtpp: {}\n")
    result = CliRunner().invoke(app, ["serve", "--config", str(file), *options])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {file}: the configuration is not valid:")
    assert "htpp: unknown key; did you mean 'http'?" in result.stderr
