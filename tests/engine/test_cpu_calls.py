"""Layers that are called directly beside vLLM's calls of them, in engines of several families."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

LAYERS = 2
LINEAR = 4 * LAYERS
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 128,
    "max_position_embeddings": 128, "tie_word_embeddings": True, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip
FAMILIES: dict[str, tuple[PretrainedConfig, torch.dtype]] = {
    "llama, adapters": (LlamaConfig(**SIZES), torch.bfloat16),
    "qwen 2, biased": (Qwen2Config(**SIZES | {"hidden_size": 128}), torch.float32),
    "gemma 2, sliding and capped": (Gemma2Config(**SIZES, sliding_window=8), torch.bfloat16),
}


def made(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> Path:
    """A model with random weights and biases."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.to(torch.bfloat16).to(dtype).save_pretrained(folder)
    return folder


def adapter(folder: Path, model: Path) -> Path:
    """A random adapter of all projections."""
    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    base = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(base, config).save_pretrained(folder)
    return folder


def called(way: str, *folders: Path) -> dict[str, Any]:
    """What `tests.engine.called` writes."""
    answers = folders[0].with_name(f"{way}.json")
    command = [sys.executable, "-m", "tests.engine.called", way, str(answers), *map(str, folders)]
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(answers.read_text())
    return told


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_vllms_bit_for_bit(tmp_path: Path, family: str) -> None:
    folders = [made(tmp_path / "model", *FAMILIES[family])]
    adapted = "adapters" in family
    if adapted:
        folders.append(adapter(tmp_path / "adapter", *folders))
    directly, vllms = called("directly", *folders), called("vllm", *folders)
    assert directly["answers"] == vllms["answers"]
    assert (directly["attention"], directly["linear"]) == (LAYERS, LINEAR)
    assert (vllms["attention"], vllms["linear"]) == (0, 0)
    base, mixed = directly["answers"][:3], directly["answers"][3:]
    assert base[1] == mixed[1]
    assert (base[0] != mixed[0]) is (base[2] != mixed[2]) is adapted
