"""Examples of the README and of docs/, run as they stand against the real service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served.server import Server
from tools.programs import environment

PAGES = ("README.md", "docs/api.md", "docs/tutorial.md")
BLOCKS: list[tuple[str, str]] = [
    block
    for page in PAGES
    for block in re.findall(r"```(sh|python)\n(.*?)```", Path(page).read_text(), re.DOTALL)
]
EXPECTED = {
    "capital city of Japan": "Tokyo",
    "terrible film": '"index":0,"label":"negative"',
    '"sentiment"': '"index":0,"label":"negative"',
    '"intent",': "HassTurnOn",
    '"prompt-safety"': '"index":0,"label":"injection"',
    '"commands"': "HassStartTimer",
    '"model": "tools"': '"name":"get_weather","arguments":"{\\"city\\": \\"Oslo\\"}"',
    '"translate-en-fr"': "fichier",
    '"decide"': '"choice":"negative"',
    "/v1/feedback": '"model":"intent"',
}
"""Part of an answer, by a part of its example; test_margins keeps the answers clear."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(smollm2: Server, number: int) -> None:
    language, text = BLOCKS[number]
    text = text.replace("127.0.0.1:8000", smollm2.url.removeprefix("http://"))
    text = text.replace("127.0.0.1:8001", smollm2.ops.removeprefix("http://"))
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(
        [*command, text],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for part, answer in EXPECTED.items():
        assert part not in text or answer in done.stdout


def test_every_expected_answer_has_its_example() -> None:
    assert all(any(part in text for _, text in BLOCKS) for part in EXPECTED)
