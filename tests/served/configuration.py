"""Configurations of services that tests and long programs start."""

import os
from pathlib import Path
from typing import Any

from loadtests import peers

SMOLLM2 = peers.MODEL_FOLDER
MINILM = Path(".cache/models/all-minilm-l6-v2")
ENGINE = peers.ENGINE
SMALL_ENCODER = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.05}
"""Arguments of an encoder's engine that runs beside other engines."""
CLIENT = os.environ.get("ENGINE_CLIENT", "auto")
"""The client of vLLM that services of tests have unless they name one; `make test-vllm` sets it."""


def with_client(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a service with `CLIENT` in each of its engines that names none."""
    if CLIENT == "auto":
        return config
    added: dict[str, Any] = {}
    if "model" in config:
        added["engine"] = {"client": CLIENT} | config.get("engine", {})
    if "encoders" in config:
        added["encoders"] = [
            each | {"engine": {"client": CLIENT} | each.get("engine", {})}
            for each in config["encoders"]
        ]
    return config | added


def tiny_config(model: Path, **engine: Any) -> dict[str, Any]:
    """The configuration of a server of the one-layer model at this folder.

    `engine` are arguments of its engine, over those of `ENGINE`.
    """
    return {
        "model": {"name": "tiny", "path": str(model)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 8} | engine,
        "admission": {"max_wait_ms": 60_000},
    }
