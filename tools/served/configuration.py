"""Configurations of services that tests and long programs start."""

from pathlib import Path
from typing import Any

from loadtests import peers

SMOLLM2 = peers.MODEL_FOLDER
MINILM = Path(".cache/models/all-minilm-l6-v2")
ENGINE = peers.ENGINE
SMALL_ENCODER = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.05}
"""Arguments of an encoder's engine that runs beside other engines."""


def tiny_config(model: Path, **engine: Any) -> dict[str, Any]:
    """The configuration of a server of the one-layer model at this folder.

    `engine` are arguments of its engine, over those of `ENGINE`.
    """
    return {
        "model": {"name": "tiny", "path": str(model)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 8} | engine,
        "gate": {"max_wait_ms": 60_000},
    }
