"""The workflows name what exists, pin what they run, and hold no more rights than they use."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.helm.binaries import actionlint

pytestmark = pytest.mark.timeout(900)  # the first run fetches actionlint

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return loaded


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_by_commit(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", use)] == []


def test_rights_are_given_job_by_job(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"] <= 120


def test_no_script_contains_an_expression(workflow: dict[str, Any]) -> None:
    """Values reach scripts by the environment, so that none becomes a part of the script."""
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_actionlint_finds_no_fault(tmp_path: Path) -> None:
    assert linted(*FILES) == ""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[0].read_text().replace("runs-on:", "run-on:", 1))
    assert 'unexpected key "run-on"' in linted(wrong)


def linted(*files: Path) -> str:
    """Faults that actionlint names in these workflows."""
    command = [str(actionlint()), "-no-color", "-shellcheck=", "-pyflakes=", *map(str, files)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode == 0) is (run.stdout == ""), run.stderr
    return run.stdout


def test_the_targets_exist() -> None:
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    for target in release["jobs"]["image"]["strategy"]["matrix"]["target"]:
        assert re.search(rf"^FROM \S+ AS {target}$", DOCKERFILE, re.MULTILINE)


def test_the_chart_has_the_line_that_the_release_rewrites() -> None:
    values = (ROOT / "helm/values.yaml").read_text()
    assert values.count("\n  repository: llm-service\n") == 1
