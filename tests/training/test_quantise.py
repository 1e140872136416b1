"""A model with weights of 8 bits, made of one in floating point."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from typer.testing import CliRunner

from service.cli.main import app
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest, read_modules
from service.models.file_list import checked_digest
from service.models.tensors import INDEX_FILE, read_tensors
from training.quantise import quantise_model, quantise_weight

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
LAYER = "model.layers.1.mlp.down_proj"


def saved(folder: Path, model: torch.nn.Module, **options: str) -> Path:
    """The model as transformers writes it, with a tokenizer's file."""
    model.to(torch.bfloat16).save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    made = saved(tmp_path / "mine", LlamaForCausalLM(LlamaConfig(**SIZES)), max_shard_size="100KB")
    (made / "README.md").write_text("# Mine\n")
    (made / "pytorch_model.bin").write_bytes(b"\x80\x02")
    return made


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = {tensor.file for tensor in read_tensors(folder).values()}
    return {name: value for path in files for name, value in load_file(path).items()}


def test_weights_are_nearest_to_the_layers(folder: Path, tmp_path: Path) -> None:
    quantise_model(folder, tmp_path / "small")
    before, after = tensors(folder), tensors(tmp_path / "small")
    assert (tmp_path / "small" / INDEX_FILE).is_file()
    layers = {name.removesuffix("_scale") for name in after if name.endswith("_scale")}
    assert len(layers) == 14
    for name, weight in before.items():
        if name not in layers:
            assert torch.equal(after[name], weight)
            continue
        scale = after[f"{name}_scale"]
        assert after[name].dtype == torch.int8
        assert after[name].abs().amax(dim=1).tolist() == [127] * len(weight)
        # In units of float32 at the bound: half of a scale.
        assert ((after[name] * scale - weight.float()).abs() <= 0.5001 * scale).all()


def test_the_folder_is_a_base_of_its_own(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    listed = quantise_model(folder, small)
    assert checked_digest(small, listed.digest) != base_model_digest(folder)
    assert listed.source == f"quantised from {base_model_digest(folder)}"
    described = json.loads((small / "config.json").read_text())["quantization_config"]
    assert (described["quant_method"], described["ignore"]) == ("compressed-tensors", ["lm_head"])
    card = (small / "README.md").read_text()
    assert base_model_digest(folder) in card
    assert card.endswith("# Mine\n")
    assert "pytorch_model.bin" not in listed.files
    # Adapters target the same modules.
    shapes = read_modules(small, read_tensors(small))
    assert shapes[LAYER] == read_modules(folder, read_tensors(folder))[LAYER]


def test_an_output_of_zeros_stays() -> None:
    weight, scale = quantise_weight(torch.tensor([[0.0, 0.0], [1.0, -0.5]]))
    assert (weight * scale).tolist() == [[0.0, 0.0], [1.0, pytest.approx(-0.5, abs=1 / 254)]]


def test_what_cannot_be_quantised_is_refused(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    quantise_model(folder, small)
    with pytest.raises(ConfigurationError, match="there is such a folder already"):
        quantise_model(folder, small)
    with pytest.raises(ConfigurationError, match="quantised already"):
        quantise_model(small, tmp_path / "smaller")
    experts = Qwen3MoeConfig(**SIZES, num_experts=2, num_experts_per_tok=1, head_dim=32)
    mixed = saved(tmp_path / "experts", Qwen3MoeForCausalLM(experts))
    with pytest.raises(ConfigurationError, match="experts"):
        quantise_model(mixed, tmp_path / "smaller")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experts", "mine", "small"]


def test_the_command_writes_beside_the_model(folder: Path) -> None:
    done = CliRunner().invoke(app, ["model", "quantise", str(folder)])
    assert done.exit_code == 0, done.output
    small = folder.with_name("mine-w8a8")
    assert checked_digest(small, done.stdout.strip()) == base_model_digest(small)
