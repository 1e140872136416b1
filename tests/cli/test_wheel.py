"""The package's wheel in an environment without a checkout, whose dependencies are this one's."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.evaluation.suites import CLASSIFICATION, write_suite
from tests.live_service import MODEL, LiveService

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    # Files of its kind within that folder, such as that of the checkout, are not read.
    packages = next((folder / "env/lib").glob("*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "env/bin/llm-service"


def run(command: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = [str(command), *map(str, arguments)]
    return subprocess.run(given, cwd=folder, capture_output=True, text=True, timeout=300)


def test_evaluate_measures_a_service_to_its_end(command: Path, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, CLASSIFICATION | {"bars": {"accuracy": ">= 0"}})
    with LiveService() as live:
        at = ("--url", live.url, "--model", MODEL)
        files = ("--report", tmp_path / "report", "--junit", tmp_path / "junit.xml")
        done = run(command, tmp_path, "evaluate", suite, *at, *files)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    (films,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert films.get("failures") == "0"
    assert "<svg" in (tmp_path / "report/report.html").read_text()


def test_a_suite_of_the_checkout_is_told_to_be_none_of_the_package(
    command: Path, tmp_path: Path
) -> None:
    done = run(command, tmp_path, "evaluate", "suites/sentiment.yaml", "--url", "http://127.0.0.1")
    assert done.returncode == 2
    assert "suites/sentiment.yaml: there is no such file: pass the YAML file of a suite" in (
        done.stderr
    )


@pytest.mark.parametrize("group", [["adapters", "list"], ["model"], ["serve"], ["finetune"]])
def test_every_command_is_there(command: Path, tmp_path: Path, group: list[str]) -> None:
    done = run(command, tmp_path, *group, "--help")
    assert done.returncode == 0, done.stderr
