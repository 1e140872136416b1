"""The compiled products that oneDNN keeps in the engine's processes (CPU build)."""

import os
import subprocess
import sys

import pytest

_PRODUCTS = """
from pathlib import Path

from service.settings.tree import CpuSettings, ModelSettings, Settings
from service.vllm.environment import apply_environment

model = ModelSettings(name="any", path=Path("any"))
apply_environment(Settings(model=model, cpu=CpuSettings(compiled_products=256)))

import torch
from vllm import _custom_ops as ops

handler = ops.create_onednn_mm(torch.zeros(16, 16), 1)  # vLLM itself keeps the last one

for rows in [1, *range(2, 200), 1, *range(2, 300), 1]:
    ops.onednn_mm(handler, torch.zeros(rows, 16), None)
"""


@pytest.mark.slow
def test_a_product_is_compiled_again_after_many_others_and_not_after_fewer() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    ended = subprocess.run(
        [sys.executable, "-c", _PRODUCTS],
        env=environment | {"ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
    )
    of_one_row = [line for line in ended.stdout.splitlines() if ",1x16:16x16," in line]
    assert [line.split("cache_")[1].split(",")[0] for line in of_one_row] == ["miss", "hit", "miss"]
