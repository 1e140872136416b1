"""Agreement with PEFT: its own adapters are accepted, by its own rule for targets."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file

from service.adapters.peft_config import read_peft_config
from service.adapters.verify import verify
from service.models.base_model import ServedBase, read_base_model
from tests.adapters.samples import MODULES, AdapterFolder
from training.packing import pack

DRAFT = {"name": "tone", "version": "0.1.0", "task": "generation"}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, random two-layer llama with a tokenizer, saved by transformers."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def train(model_folder: Path, out: Path, **options: Any) -> Path:
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
    peft.get_peft_model(model, config).to(torch.bfloat16).save_pretrained(
        out, save_embedding_layers=False
    )
    return out


@pytest.mark.parametrize(
    ("options", "modules", "rank"),
    [
        ({"r": 4, "target_modules": ["q_proj", "v_proj"]}, 4, 4),
        ({"r": 4, "target_modules": "all-linear"}, 14, 4),
        ({"r": 4, "target_modules": r".*\.(up|down)_proj"}, 4, 4),
        ({"r": 4, "target_modules": ["q_proj"], "layers_to_transform": [1]}, 1, 4),
        ({"r": 4, "target_modules": ["q_proj", "o_proj"], "exclude_modules": ["o_proj"]}, 2, 4),
        ({"r": 2, "target_modules": ["q_proj", "k_proj"], "rank_pattern": {"k_proj": 8},
          "alpha_pattern": {"layers.1.self_attn.k_proj": 3}, "use_rslora": True}, 4, 8),
        ({"r": 4, "target_modules": ["embed_tokens", "o_proj"]}, 3, 4),
    ],
    ids=["names", "all-linear", "pattern", "one layer", "excluded", "rank pattern", "embedding"],
)  # fmt: skip
def test_an_adapter_saved_by_peft_is_packed_and_verified(
    model_folder: Path, tmp_path: Path, options: dict[str, Any], modules: int, rank: int
) -> None:
    base = read_base_model(model_folder, name="llama", max_rank=8)
    folder = train(model_folder, tmp_path / "tone", **options)

    packed = pack(folder, base, DRAFT)

    assert verify(folder, base) == packed
    assert packed.rank == rank
    assert len(load_file(folder / "adapter_model.safetensors")) == 2 * modules


OPTIONS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["proj"]},
    {"target_modules": ["self_attn.q_proj", "model.layers.0.mlp.up_proj"]},
    {"target_modules": r".*_proj"},
    {"target_modules": r"model\.layers\.0\.mlp\..*"},
    {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["self_attn.q_proj"]},
    {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*mlp.*"},
    {"target_modules": ["q_proj"], "layers_to_transform": 0},
    {"target_modules": ["q_proj"], "layers_to_transform": [1, 2]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["h", "layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "h"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_targets_agree_with_pefts_own_rule(
    adapter: AdapterFolder, base: ServedBase, options: dict[str, Any]
) -> None:
    adapter.config |= options
    adapter.write_plain()
    ours = read_peft_config("tone", adapter.path, base.max_rank)
    theirs = peft.LoraConfig(r=4, **options)
    modules = [
        module.replace("layers.0", f"layers.{layer}") for module in MODULES for layer in range(3)
    ] + ["q_proj", "layers.0.q_proj", "h.0.q_proj", "x.layers.1.experts.0.q_proj"]

    for module in modules:
        found = check_target_module_exists(theirs, module)
        wanted = bool(found) and type(found).__name__ != "_ExcludedModule"
        assert ours.targets(module) == wanted, module
