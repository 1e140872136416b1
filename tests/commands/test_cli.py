"""The command line's messages; what it serves is tested elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from service.commands.cli import app
from service.model.base_model import read_base_model
from tests.adapters.samples import AdapterFolder, write_base


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


def test_a_required_adapter_that_is_broken_ends_the_process_with_one_message(
    tmp_path: Path,
) -> None:
    base = write_base(tmp_path / "base")
    described = read_base_model(base, name="base", max_rank=16)
    broken = AdapterFolder(tmp_path / "sentiment", described).save().path
    (broken / "golden.jsonl").write_text("edited")
    config = {
        "model": {"name": "base", "path": "base"},
        "http": {"port": 0, "ops_port": 0},
        "adapters": [{"source": "sentiment"}],
        "adapter_cache": {"path": "cache"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "service.commands.cli", "serve", "--config"]
    ended = subprocess.run(
        [*command, str(tmp_path / "config.yaml")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    (message,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    # No engine could serve this base: its refusal would have come first.
    assert message.startswith("error: adapter sentiment: golden.jsonl: ")
