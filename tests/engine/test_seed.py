"""The process that the engine's processes are forked from (CPU build), and what it spares them."""

import subprocess
import sys
from pathlib import Path

import pytest
from vllm.v1.engine import utils

from service.vllm.cpu import forkserver as seed

ROOT = Path(__file__).parents[2]


def test_without_a_seed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "_seeds", {})
    before = utils.get_mp_context
    seed.use_seed()
    assert utils.get_mp_context is before


MAIN = """
from pathlib import Path

from service.settings.load import load_settings
from service.vllm.cpu import forkserver

print(__name__)
if __name__ == "__main__":
    forkserver.begin_seed(load_settings(Path("deploy/local/config.yaml")))
    process = forkserver._Context().Process(target=print, args=("forked",))
    process.start()
    process.join()
"""


def test_a_forked_process_does_not_import_the_command_again(tmp_path: Path) -> None:
    file = tmp_path / "command.py"
    file.write_text(MAIN)
    run = subprocess.run(
        [sys.executable, str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["__main__", "forked"], run.stderr
