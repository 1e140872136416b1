"""The long checks name all that they need at once, before they begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cluster.needs import needed
from tools.image.needs import ROOT, building


@pytest.mark.parametrize(
    ("module", "packages"),
    [("tools.image", building()), ("tools.cluster", needed())],
)
def test_a_machine_without_programs_is_told_them_all(
    module: str, packages: dict[str, str], tmp_path: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, "PATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    programs = {name for name, place in packages.items() if not place.startswith("/")}
    (sentence,) = run.stderr.splitlines()
    words = sentence.partition("apt-get install ")[2].partition(";")[0].split()
    assert programs <= set(words) <= packages.keys()
    assert (run.returncode, run.stdout) == (1, "")
