"""Random adapters of the model that `bench` serves; no part of the load tests' image."""

from collections.abc import Sequence
from pathlib import Path

from loadtests.peers import MODEL
from service.models.base_model import read_base_model
from training.packing import pack


def write(
    names: Sequence[str], rank: int, model: Path, folder: Path, version: str = "1.0.0"
) -> None:
    """Write adapters on all projections of a model, with their manifests, into a folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=rank, target_modules="all-linear", init_lora_weights=False)
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    tuned = get_peft_model(weights, config, adapter_name=names[0])
    for name in names[1:]:
        tuned.add_adapter(name, config)
    tuned.save_pretrained(folder)
    base = read_base_model(model, name=MODEL, max_rank=rank)
    for name in names:
        # Random weights may say anything: there is nothing to prove.
        pack(folder / name, base, {"name": name, "version": version, "task": "generation"})
