"""A tiny llama-like base and an adapter for it, each as real files on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from service.common.files import file_digest
from service.models.base_model import ServedBase, read_base_model

HIDDEN, INTER, KV, VOCAB = 64, 128, 32, 96
LAYER = "model.layers.0"
MODULES = {
    "model.embed_tokens": (VOCAB, HIDDEN),
    f"{LAYER}.self_attn.q_proj": (HIDDEN, HIDDEN),
    f"{LAYER}.self_attn.k_proj": (KV, HIDDEN),
    f"{LAYER}.self_attn.v_proj": (KV, HIDDEN),
    f"{LAYER}.self_attn.o_proj": (HIDDEN, HIDDEN),
    f"{LAYER}.mlp.gate_proj": (INTER, HIDDEN),
    f"{LAYER}.mlp.up_proj": (INTER, HIDDEN),
    f"{LAYER}.mlp.down_proj": (HIDDEN, INTER),
}
Q = f"base_model.model.{LAYER}.self_attn.q_proj"
V = f"base_model.model.{LAYER}.self_attn.v_proj"


def write_base(folder: Path, *, seed: int = 0) -> Path:
    """Write a one-layer base model with a tied output layer."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors = {
        f"{module}.weight": random.standard_normal(shape).astype(np.float16)
        for module, shape in MODULES.items()
    }
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float16)
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": HIDDEN, "transformers_version": "5.0"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    return folder


def describe(folder: Path) -> ServedBase:
    """The base as an engine with max_lora_rank 8 serves it."""
    return read_base_model(folder, name="tiny", max_rank=8)


class AdapterFolder:
    """A good classification adapter; a test breaks a part, then calls `save` or `seal`."""

    def __init__(self, path: Path, base: ServedBase, *, seed: int = 0) -> None:
        self.path = path
        random = np.random.default_rng(seed)

        def values(*shape: int) -> np.ndarray[Any, Any]:
            return random.standard_normal(shape).astype(np.float32)

        self.tensors = {
            f"{Q}.lora_A.weight": values(4, HIDDEN),
            f"{Q}.lora_B.weight": values(HIDDEN, 4),
            f"{V}.lora_A.weight": values(4, HIDDEN),
            f"{V}.lora_B.weight": values(KV, 4),
        }
        self.config: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "somewhere",
            "r": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.05,
            "target_modules": ["q_proj", "v_proj"],
            "bias": "none",
            "init_lora_weights": True,
            "use_dora": False,
            "modules_to_save": None,
            "rank_pattern": {},
            "alpha_pattern": {},
        }
        self.golden = [
            {"input": "good", "label": "positive"},
            {"input": "bad", "label": "negative"},
        ]
        self.manifest: dict[str, Any] = {
            "schema": 1,
            "name": "sentiment",
            "version": "1.2.0",
            "base_model": {"name": base.name, "digest": base.digest},
            "task": "classification",
            "files": {},
            "prompt": {"template": "Review: {input}\nSentiment:"},
            "classification": {"labels": {"positive": " positive", "negative": " negative"}},
            "golden": {"file": "golden.jsonl", "min_accuracy": 0.9},
        }

    def save(self) -> "AdapterFolder":
        """Write every file, then `seal`."""
        self.write_plain()
        lines = "".join(json.dumps(example) + "\n" for example in self.golden)
        (self.path / "golden.jsonl").write_text(lines)
        return self.seal()

    def write_plain(self) -> None:
        """Write what PEFT writes, and nothing else."""
        self.path.mkdir(exist_ok=True, parents=True)
        save_file(self.tensors, self.path / "adapter_model.safetensors")
        (self.path / "adapter_config.json").write_text(json.dumps(self.config))

    def seal(self) -> "AdapterFolder":
        """Write the manifest over the files as they are now."""
        self.manifest["files"] = {
            path.name: file_digest(path)
            for path in sorted(self.path.iterdir())
            if path.is_file() and path.name != "adapter.yaml"
        }
        return self.write_manifest()

    def write_manifest(self) -> "AdapterFolder":
        """Write the manifest as it stands."""
        (self.path / "adapter.yaml").write_text(yaml.safe_dump(self.manifest, sort_keys=False))
        return self


def raw_safetensors(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with any header: bytes as they are, else as JSON."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data
