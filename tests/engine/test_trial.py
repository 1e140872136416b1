"""A bare PEFT folder that is served for a look."""

import json
import sys
from pathlib import Path

import httpx
import pytest

from loadtests.processes import free_port, running, served, wait_until
from service.errors import ConfigurationError
from service.settings.tree import ModelSettings, Settings
from tests.served.configuration import ENGINE
from tests.served.lora import LoraMaker
from tests.served.server import START_SECONDS
from training.trial import prepare_trial


def test_a_peft_folder_answers_under_a_name_that_says_it_is_unproven(
    tiny_folder: Path, tmp_path: Path
) -> None:
    peft = tmp_path / "mine"
    LoraMaker(tiny_folder, "tiny").write(
        peft, name="mine", version="1.0.0", seed=1, prompts=("Hello there",), tokens=4
    )
    for name in ("adapter.yaml", "golden.jsonl"):
        (peft / name).unlink()
    before = {path.name for path in peft.iterdir()}
    ports = {"port": free_port(), "ops_port": free_port()}
    config = {
        "model": {"name": "tiny", "path": str(tiny_folder)},
        "engine": ENGINE | {"dtype": "float32"},
        "http": {"host": "0.0.0.0", **ports},
        "require_proof": True,
    }
    file, log = tmp_path / "config.yaml", tmp_path / "log"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "service.cli.main", "adapters", "try", str(peft)]
    url, ops = (f"http://127.0.0.1:{port}" for port in ports.values())
    with running([*command, "--config", str(file)], log) as process:
        wait_until(lambda: served(f"{ops}/readyz", process, log), START_SECONDS, "readiness")
        (adapter,) = httpx.get(f"{url}/v1/adapters", timeout=60).json()["data"]
        assert (adapter["name"], adapter["state"]) == ("unproven-mine", "unproven")
        body = {"model": "unproven-mine", "prompt": "Hello there", "max_tokens": 4}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=600)
        assert answer.json()["model"] == "unproven-mine"
        assert answer.json()["usage"]["completion_tokens"] == 4
    assert {path.name for path in peft.iterdir()} == before


def test_a_folder_that_is_none_of_pefts_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(name="tiny", path=tiny_folder))
    with pytest.raises(ConfigurationError, match=r"has no adapter_config\.json, as PEFT"):
        prepare_trial(tmp_path, settings, tmp_path / "target")
