"""One server of each model a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.model.smollm2 import fetch_smollm2
from tests.engine.server import PATIENT, Server, running_server
from tests.engine.tiny import build_tiny_model

SMOLLM2 = Path(".cache/models/smollm2-135m-instruct")
ADAPTERS = Path("deploy/local/adapters")
ENGINE = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "gpu_memory_utilization": 0.2,
    "enforce_eager": True,
}


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    fetch_smollm2(SMOLLM2)
    return SMOLLM2.resolve()


@pytest.fixture(scope="session")
def tiny_folder(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(smollm2_folder, folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded default with the adapters that `make run` serves."""
    config = PATIENT | {
        "model": {"name": "smollm2-135m-instruct", "path": str(smollm2_folder)},
        "engine": ENGINE | {"max_lora_rank": 8},
        "adapters": [{"source": str(each.resolve())} for each in sorted(ADAPTERS.iterdir())],
    }
    with running_server(tmp_path_factory.mktemp("smollm2"), config) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = PATIENT | {
        "model": {"name": "tiny", "path": str(tiny_folder)},
        # Prompts of more tokens than a step has are read in several.
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 16, "max_num_batched_tokens": 1024},
        "gate": PATIENT["gate"] | {"max_queued": 64},
        "watchdog": PATIENT["watchdog"]
        | {"probe_s": 3600},  # some tests look at what the engine counts
    }
    with running_server(tmp_path_factory.mktemp("tiny-server"), config) as server:
        yield server
