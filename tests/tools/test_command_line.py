"""Command lines of the tools: each explains itself, and does nothing else then."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_OF_TESTS = ("tests.canaries.local", "tests.gpu_check.kernels")
"""Commands among the modules of the tests; the others there are programs that tests start."""


def _commands() -> list[str]:
    files = sorted((ROOT / "tools").rglob("*.py"))
    run = [each for each in files if 'if __name__ == "__main__":' in each.read_text("utf-8")]
    names = [".".join(each.relative_to(ROOT).with_suffix("").parts) for each in run]
    return [*(each.removesuffix(".__main__") for each in names), *_OF_TESTS]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # others import them
@pytest.mark.parametrize("module", _commands())
def test_help_names_the_command_and_starts_nothing(
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setenv("PATH", "")  # no program that a tool would run is found
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {module} [-h]")
    assert not [*tmp_path.iterdir()]
