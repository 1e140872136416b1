"""The command line's messages; what it serves is tested elsewhere."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from service.cli.main import app
from service.common.entry_points import load_group

ROOT = Path(__file__).parents[2]


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


def test_serving_imports_no_other_command() -> None:
    code = "import sys, service.cli.main; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = told.stdout.split()
    assert "service.cli.main" in modules
    others = ("evaluation", "training", "service.cli.adapters", "service.plugins")
    assert not [name for name in modules if name.startswith(others)]


def test_a_misspelt_command_is_told_the_right_one() -> None:
    result = CliRunner().invoke(app, ["evaluat"])
    assert result.exit_code == 2
    assert "Did you mean 'evaluate'?" in result.stderr


# As in an image: the wheel there is built without the two packages.
WITHOUT = """
import importlib.util, sys
from pathlib import Path
from typing import Any

sys.path[:] = [sys.argv.pop(1), *(each for each in sys.path if not Path(each, "training").is_dir())]
assert importlib.util.find_spec("training") is importlib.util.find_spec("evaluation") is None
from service.cli.main import app
from service.common.entry_points import load_group

app()
"""


def ours(command: Any) -> bool:
    """True for a command of the service itself, a function or a Typer app of functions."""
    first = command.registered_commands[0].callback if isinstance(command, Typer) else command
    return str(first.__module__).startswith("service.")


def test_an_image_has_no_commands_that_train_or_measure(tmp_path: Path) -> None:
    (tmp_path / "service").symlink_to(ROOT / "service")
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), "--help"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    listed = {line.split()[1] for line in run.stdout.splitlines() if line.startswith("│ ")}
    of_plugins = {name for name, each in load_group("llm_service.commands").items() if ours(each)}
    assert {"serve", "adapters", "keys", "model"} | of_plugins <= listed
    assert not [name for name in listed if name.startswith(("finetune", "evaluate", "calibrate"))]
