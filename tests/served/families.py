"""Random models of two layers for each family of architectures that the service is tried with."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.served.lora import MODULES
from tests.served.tiny import TOKENIZER_FILES


@dataclass(frozen=True)
class Family:
    """An architecture, by its configuration class in transformers, and what an adapter changes."""

    config: str
    modules: Sequence[str] = MODULES
    options: dict[str, Any] = field(default_factory=dict)


_MOE = {"num_experts_per_tok": 2}
_LOCAL = {"query_pre_attn_scalar": 32, "sliding_window": 64}

FAMILIES = {
    "llama": Family("LlamaConfig"),
    "qwen2": Family("Qwen2Config"),
    "qwen3": Family("Qwen3Config"),
    "mistral": Family("MistralConfig", options={"sliding_window": None}),
    "gemma2": Family("Gemma2Config", options=_LOCAL),
    "gemma3": Family("Gemma3TextConfig", options=_LOCAL),
    "phi3": Family("Phi3Config", ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "qwen3-moe": Family(
        "Qwen3MoeConfig", (), _MOE | {"num_experts": 4, "moe_intermediate_size": 64}
    ),
    "gpt-oss": Family("GptOssConfig", (), _MOE | {"num_local_experts": 4, "sliding_window": 64}),
}


def build_family(family: Family, source: Path, target: Path) -> None:
    """Save a random model in float32 with `source`'s tokenizer and chat template."""
    import torch
    import transformers

    made: Callable[..., Any] = getattr(transformers, family.config)
    config = made(
        vocab_size=49_152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        **family.options,
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(target)
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, target / name)
