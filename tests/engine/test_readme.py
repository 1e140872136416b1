"""The README's examples, run as they stand against the real service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.server import Server

BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
EXPECTED = {0: "Paris"}
"""What the answer of an example must hold, where the README says what it will be."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(smollm2: Server, number: int) -> None:
    language, text = BLOCKS[number]
    text = text.replace("127.0.0.1:8000", smollm2.url.removeprefix("http://"))
    text = text.replace("127.0.0.1:8001", smollm2.ops.removeprefix("http://"))
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(
        [*command, text], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert EXPECTED.get(number, "") in done.stdout
