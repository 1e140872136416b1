"""The base model with a LoRA on it, in training."""

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from service.adapters.manifest import CONFIG_FILE
from service.errors import ConfigurationError
from service.finetune.config import FinetuneSettings

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def pick_device(wanted: str) -> torch.device:
    """The device to train on; ConfigurationError for CUDA where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("training.device: cuda, but torch finds no CUDA device")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def give_back_memory() -> None:
    """Return what a model on a GPU held, once nothing refers to it, to whoever computes next.

    The process keeps its CUDA context, some hundred MiB.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class LoraModel:
    """A frozen base in `dtype` and a trainable float32 LoRA; products are computed in `dtype`."""

    def __init__(self, settings: FinetuneSettings) -> None:
        training = settings.training
        self.device = pick_device(training.device)
        self._dtype = _DTYPES[training.dtype]
        # For these short batches plain attention is faster on a CPU.
        attention = "sdpa" if self.device.type == "cuda" else "eager"
        try:
            base = AutoModelForCausalLM.from_pretrained(
                settings.base.path,
                dtype=self._dtype,
                attn_implementation=attention,
                local_files_only=True,
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: cannot be loaded: {error}") from error
        base.config.use_cache = False
        torch.manual_seed(training.seed)
        self._peft: PeftModel = get_peft_model(base, _lora_config(settings, base)).to(self.device)
        self._base_name = settings.base.name
        self._inner = base.base_model
        self._head = base.get_output_embeddings()
        self.parameters: Mapping[str, torch.nn.Parameter] = {
            name: parameter
            for name, parameter in self._peft.named_parameters()
            if parameter.requires_grad
        }

    def train(self, training: bool) -> None:
        """Switch dropout on or off."""
        self._peft.train(training)

    def hidden(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The last hidden states, (batch, length, hidden)."""
        with self._autocast():
            states: torch.Tensor = self._inner(
                input_ids=token_ids, attention_mask=mask
            ).last_hidden_state
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The output layer on some places only: (places, hidden) -> (places, vocabulary)."""
        with self._autocast():
            logits: torch.Tensor = self._head(states)
        return logits.float()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the adapter's parameters."""
        return {name: each.detach().clone() for name, each in self.parameters.items()}

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the adapter's parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def save(self, folder: Path) -> None:
        """Write PEFT's two files in bfloat16: `adapter_config.json`, `adapter_model.safetensors`.

        The configuration has the base's served name, not its path. PEFT keeps the modules as a set;
        they are written in order, so that equal adapters have equal digests.
        """
        for parameter in self.parameters.values():
            parameter.data = parameter.data.to(torch.bfloat16)
        self._peft.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        file = folder / CONFIG_FILE
        config = json.loads(file.read_text())
        config["base_model_name_or_path"] = self._base_name
        config["target_modules"].sort()
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def _autocast(self) -> Any:
        enabled = self._dtype != torch.float32
        return torch.autocast(self.device.type, self._dtype, enabled=enabled)


def _lora_config(settings: FinetuneSettings, base: Any) -> LoraConfig:
    lora = settings.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules),
        layers_to_transform=_layers(lora.last_layers, base.config.num_hidden_layers),
        task_type="CAUSAL_LM",
    )


def _layers(last: int | None, count: int) -> Sequence[int] | None:
    if last is None or last == count:
        return None
    if last > count:
        raise ConfigurationError(f"lora.last_layers: {last}; the base has {count} layers")
    return list(range(count - last, count))
