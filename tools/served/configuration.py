"""Configurations of services that tests and long programs start."""

from pathlib import Path
from typing import Any

SMOLLM2 = Path(".cache/models/smollm2-135m-instruct")
ENGINE = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "gpu_memory_utilization": 0.2,
    "enforce_eager": True,
}


def tiny_config(model: Path) -> dict[str, Any]:
    """The configuration of a server of the one-layer model at this folder."""
    return {
        "model": {"name": "tiny", "path": str(model)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 8},
        "gate": {"max_wait_ms": 60_000},
    }
