"""An encoder with a classification head on it, in training."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModelForSequenceClassification

from service.adapters.manifest import LabelSet
from service.errors import ConfigurationError
from service.models.base_model import TOKENIZER_FILES
from training.config import FinetuneSettings
from training.example import Example
from training.head_example import SENTENCE_FILE
from training.loss import padded
from training.trainee import Trainee, attention_on, pick_device


class HeadModel(Trainee):
    """The base as transformers' class for sequence classification, with a new head of the labels.

    What lies between the encoder's layers and the head (BERT's pooler) is trained with the head.
    """

    def __init__(self, settings: FinetuneSettings, task: LabelSet) -> None:
        training, names = settings.training, tuple(task.labels)
        kind = "multi_label_classification" if task.multi_label else "single_label_classification"
        torch.manual_seed(training.seed)
        try:
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                settings.base.path,
                dtype=torch.float32,
                attn_implementation=attention_on(pick_device(training.device)),
                id2label=dict(enumerate(names)),
                label2id={name: place for place, name in enumerate(names)},
                problem_type=kind,
                ignore_mismatched_sizes=True,  # a base may have a head of other labels
                local_files_only=True,
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: cannot be loaded: {error}") from error
        if settings.head is not None and settings.head.last_layers is not None:
            _freeze(self._model, settings.head.last_layers)
        super().__init__(self._model, training)
        self._base, self._multi_label = settings.base.path, task.multi_label

    def loss(self, examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
        """The sum of the examples' weighted losses, in nats, and the sum of their weights.

        An example's loss is -log P of its label; under multi_label it is the sum over all labels.
        """
        padding = self._model.config.pad_token_id or 0
        token_ids, mask = padded(examples, self.device, padding)
        with self.autocast():
            logits = self._model(input_ids=token_ids, attention_mask=mask).logits.float()
        weights = torch.tensor([each.weight for each in examples], device=self.device)
        wanted = torch.zeros_like(logits)
        for row, example in enumerate(examples):
            wanted[row, list(example.labels)] = 1
        if self._multi_label:
            each = binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
        else:
            each = cross_entropy(logits, wanted, reduction="none")
        return (each * weights).sum(), float(weights.sum())

    def save(self, folder: Path) -> None:
        """Write the whole encoder in float32 with its configuration, and the base's tokenizer."""
        self._model.save_pretrained(folder)
        for name in (*TOKENIZER_FILES, SENTENCE_FILE):
            if (self._base / name).is_file():
                shutil.copyfile(self._base / name, folder / name)


def _freeze(model: Any, last_layers: int) -> None:
    """Freeze the encoder except for its last layers and its pooler."""
    encoder, count = model.base_model, model.config.num_hidden_layers
    layers = next(
        (
            module
            for module in encoder.modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) == count
        ),
        None,
    )
    if layers is None or last_layers > count:
        raise ConfigurationError(f"head.last_layers: {last_layers}; the encoder has {count} layers")
    encoder.requires_grad_(False)
    for module in (*layers[count - last_layers :], getattr(encoder, "pooler", None)):
        if module is not None:
            module.requires_grad_(True)
