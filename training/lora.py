"""The base model with a LoRA on it, in training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from service.adapters.manifest import CONFIG_FILE
from service.errors import ConfigurationError
from training.config import FinetuneSettings
from training.trainee import Trainee, attention_on, dtype_of, pick_device


class LoraModel(Trainee):
    """A frozen base in `dtype` and a trainable float32 LoRA; products are computed in `dtype`."""

    def __init__(self, settings: FinetuneSettings) -> None:
        training = settings.training
        try:
            base = AutoModelForCausalLM.from_pretrained(
                settings.base.path,
                dtype=dtype_of(training),
                attn_implementation=attention_on(pick_device(training.device)),
                local_files_only=True,
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: cannot be loaded: {error}") from error
        base.config.use_cache = False
        torch.manual_seed(training.seed)
        self._peft: PeftModel = get_peft_model(base, _lora_config(settings, base))
        super().__init__(self._peft, training)
        self._base_name = settings.base.name
        self._inner = base.base_model
        self._head = base.get_output_embeddings()

    def hidden(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The last hidden states, (batch, length, hidden)."""
        with self.autocast():
            states: torch.Tensor = self._inner(
                input_ids=token_ids, attention_mask=mask
            ).last_hidden_state
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The output layer on some places only: (places, hidden) -> (places, vocabulary)."""
        with self.autocast():
            logits: torch.Tensor = self._head(states)
        return logits.float()

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
