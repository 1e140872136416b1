"""Configurations of services that tests and long programs start."""

from pathlib import Path
from typing import Any

from loadtests import peers

SMOLLM2 = peers.MODEL_FOLDER
ENGINE = peers.ENGINE


def tiny_config(model: Path) -> dict[str, Any]:
    """The configuration of a server of the one-layer model at this folder."""
    return {
        "model": {"name": "tiny", "path": str(model)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 8},
        "gate": {"max_wait_ms": 60_000},
    }
