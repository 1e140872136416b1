"""Models of real shapes as folders: config.json and the headers of their weights, without bytes.

A weights file is as long as its header says, but sparse, so 140 GB of them take no disk.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = dict[str, tuple[str, tuple[int, ...]]]

_BITS = {"BF16": 16, "F16": 16, "F32": 32, "F8_E4M3": 8, "I32": 32, "U8": 8}

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
}
QWEN = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}


def _sizes(
    hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, context: int, tied: bool
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
    }


FIVE: Mapping[str, dict[str, Any]] = {
    "SmolLM2-135M": LLAMA | _sizes(576, 1536, 30, 9, 3, 49152, 8192, True),
    "Qwen2.5-1.5B": QWEN | _sizes(1536, 8960, 28, 12, 2, 151936, 32768, True),
    "Llama-3.1-8B": LLAMA | _sizes(4096, 14336, 32, 32, 8, 128256, 131072, False),
    "Qwen2.5-32B": QWEN | _sizes(5120, 27648, 64, 40, 8, 152064, 32768, False),
    "Llama-3.1-70B": LLAMA | _sizes(8192, 28672, 80, 64, 8, 128256, 131072, False),
}
"""Models of 0.1 to 70 billion parameters, of the shapes that their publishers state."""

MIXTURE = (
    LLAMA
    | _sizes(2048, 6144, 8, 32, 4, 151936, 40960, False)
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    }
)
"""Eight of the 48 layers of Qwen3-30B-A3B, a mixture of experts."""

SLIDING = (
    LLAMA
    | _sizes(1152, 6912, 26, 4, 1, 262144, 32768, True)
    | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "layer_types": [
            "full_attention" if (n + 1) % 6 == 0 else "sliding_attention" for n in range(26)
        ],
    }
)
"""Gemma 3 1B, most of whose layers see 512 tokens."""

LATENT = (
    LLAMA
    | _sizes(2048, 10944, 27, 16, 16, 102400, 163840, False)
    | {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "moe_layer_freq": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": False,
        "head_dim": 64,
    }
)
"""DeepSeek-V2-Lite, with latent attention."""


def write_shaped(folder: Path, config: Mapping[str, Any], shapes: Shapes | None = None) -> Path:
    """Write a model's folder; the shapes are those of the configuration, if not given."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in (shapes or shapes_of(config)).items():
        begin, end = end, end + math.prod(shape) * _BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    return folder


def shapes_of(config: Mapping[str, Any]) -> Shapes:
    """Types and shapes of a checkpoint's tensors by their published names."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    shapes: Shapes = {
        "model.embed_tokens.weight": ("BF16", (vocab, hidden)),
        "model.norm.weight": ("BF16", (hidden,)),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = ("BF16", (vocab, hidden))
    for layer in range(config["num_hidden_layers"]):
        within = _attention(config) | _feed_forward(config, layer)
        within |= dict.fromkeys(_norms(config), (hidden,))
        for name, shape in within.items():
            shapes[f"model.layers.{layer}.{name}"] = ("BF16", shape)
    return shapes


def _norms(config: Mapping[str, Any]) -> list[str]:
    names = ["input_layernorm", "post_attention_layernorm"]
    if config["model_type"] == "gemma3_text":
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return [f"{name}.weight" for name in names]


def _attention(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if rank := config.get("kv_lora_rank"):
        rope, nope, value = (config[f"{name}_head_dim"] for name in ("qk_rope", "qk_nope", "v"))
        return {
            "self_attn.q_proj.weight": (heads * (rope + nope), hidden),
            "self_attn.kv_a_proj_with_mqa.weight": (rank + rope, hidden),
            "self_attn.kv_a_layernorm.weight": (rank,),
            "self_attn.kv_b_proj.weight": (heads * (nope + value), rank),
            "self_attn.o_proj.weight": (hidden, heads * value),
        }
    size = config.get("head_dim") or hidden // heads
    wide, narrow = heads * size, config["num_key_value_heads"] * size
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (wide, hidden),
        "self_attn.k_proj.weight": (narrow, hidden),
        "self_attn.v_proj.weight": (narrow, hidden),
        "self_attn.o_proj.weight": (hidden, wide),
    }
    if config["model_type"] == "qwen2":
        shapes |= {
            f"self_attn.{name}_proj.bias": (size,)
            for name, size in (("q", wide), ("k", narrow), ("v", narrow))
        }
    if config["model_type"] in ("qwen3_moe", "gemma3_text"):
        shapes |= {f"self_attn.{name}_norm.weight": (size,) for name in "qk"}
    return shapes


def _feed_forward(config: Mapping[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    hidden = config["hidden_size"]
    experts = config.get("num_experts") or config.get("n_routed_experts")
    if not experts or layer < config.get("first_k_dense_replace", 0):
        return _gated("mlp", hidden, config["intermediate_size"])
    inner = config["moe_intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"mlp.gate.weight": (experts, hidden)}
    for expert in range(experts):
        shapes |= _gated(f"mlp.experts.{expert}", hidden, inner)
    if shared := config.get("n_shared_experts"):
        shapes |= _gated("mlp.shared_experts", hidden, shared * inner)
    return shapes


def _gated(place: str, hidden: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{place}.gate_proj.weight": (inner, hidden),
        f"{place}.up_proj.weight": (inner, hidden),
        f"{place}.down_proj.weight": (hidden, inner),
    }
