"""Base models of a Hub, which is served on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.model.digest import base_model_digest
from service.model.hub import IGNORED
from tests.adapters.samples import write_base
from tests.adapters.servers import serve_hub

UNREAD = ("consolidated.00.pth", "consolidated.safetensors", "pytorch_model.bin", "model.gguf")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model, and the same weights in other formats."""
    folder = write_base(tmp_path / "repository")
    for name in UNREAD:
        (folder / name).write_bytes(b"w" * 1000)
    return folder


def fetch(
    folder: Path, source: str, endpoint: str, *options: str
) -> "subprocess.CompletedProcess[str]":
    # A process of its own: huggingface_hub reads HF_ENDPOINT when it is imported.
    command = [sys.executable, "-m", "service.commands.cli", "model", "fetch", str(folder)]
    return subprocess.run(
        [*command, "--source", source, *options],
        # An engine that another test has started has switched the Hub off for this process.
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder.parent / "hub"),
            "HF_HUB_OFFLINE": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_is_fetched_without_what_the_engine_does_not_read(
    repository: Path, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "mine"
    with serve_hub(repository) as hub:
        run = fetch(target, "hf://acme/tone@v1", hub.url)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == base_model_digest(repository)
    assert names(target) == names(repository) - set(UNREAD)
    assert {name for name, _ in hub.fetched}.isdisjoint(UNREAD)
    assert names(target.parent) == {"mine", "mine.lock", "hub"}
    again = fetch(target, "hf://acme/tone@v1", "http://127.0.0.1:9")
    assert again.stdout == run.stdout


def test_other_patterns_take_the_place_of_those(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "mine"
    with serve_hub(repository) as hub:
        run = fetch(target, "hf://acme/tone@v1", hub.url, "--ignore", "*.gguf")
    assert run.returncode == 0, run.stderr
    assert names(target) == names(repository) - {"model.gguf"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("acme/tone", "source: must be hf://ORG/NAME@REVISION"),
        ("hf://acme/tone", "source: must be hf://ORG/NAME@REVISION"),
        ("hf://acme/tone@v2", "hf://acme/tone@v2: "),
    ],
)
def test_a_source_that_is_none_leaves_nothing(
    repository: Path, tmp_path: Path, source: str, message: str
) -> None:
    target = tmp_path / "models" / "mine"
    with serve_hub(repository) as hub:
        run = fetch(target, source, hub.url)
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1].startswith("error: "), run.stderr
    assert message in run.stderr
    assert not target.exists()


def test_weights_that_are_served_are_never_left_out() -> None:
    served = {"*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"}
    assert served.isdisjoint(IGNORED)
