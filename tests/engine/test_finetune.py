"""`llm-service finetune` by its real parts: from lines to an adapter proven on vLLM."""

import json
from pathlib import Path

import pytest
import yaml

from tests.served.server import ran
from tests.training.conftest import films, films_run


@pytest.mark.slow
def test_lines_become_an_adapter_that_the_engine_proves(tiny_folder: Path, tmp_path: Path) -> None:
    lines = "".join(f"{json.dumps(line)}\n" for line in films(120))
    (tmp_path / "lines.jsonl").write_text(lines)
    engine = {
        "dtype": "float32",
        "max_model_len": 512,
        "gpu_memory_utilization": 0.2,
        "enforce_eager": True,
    }
    # Trained until the weights differ from none by more than the fingerprint asks for.
    configuration = films_run(tiny_folder) | {
        "training": {"epochs": 24, "dtype": "float32", "learning_rate": 0.02},
        "evaluation": {"golden": 4, "engine": engine},
    }
    file, log = tmp_path / "run.yaml", tmp_path / "log"
    file.write_text(yaml.safe_dump(configuration))
    command = ("service.cli.main", "finetune", str(file), "--json")
    code = ran(log, *command, VLLM_CPU_KVCACHE_SPACE="1")
    told = log.read_text()
    assert code == 0, told[-4000:]
    assert "Traceback" not in told
    (figures,) = [json.loads(line) for line in told.splitlines() if line.startswith('{"adapter"')]
    assert figures["adapter"]["accuracy"] > 0.9
    assert figures["adapter"]["accuracy"] > figures["base"]["accuracy"]
    assert (tmp_path / "adapters/films/adapter.yaml").is_file()
