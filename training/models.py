"""Models in training: a LoRA on a base model, or an encoder with a classification head."""

import gc
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from service.adapters.manifest import CONFIG_FILE, LabelSet
from service.errors import ConfigurationError
from service.models.base_model import TOKENIZER_FILES
from service.settings import section as platform
from training.config import FinetuneSettings, TrainingSettings
from training.examples import SENTENCE_FILE, Branch, Example

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class TrainableModel:
    """A module with the parameters to train: those that require a gradient.

    They are kept in float32; products are computed in `training.dtype`.
    """

    def __init__(self, module: torch.nn.Module, training: TrainingSettings) -> None:
        self.device = pick_device(training.device)
        self._dtype = dtype_of(training)
        self._module = module.to(self.device)
        self.parameters: Mapping[str, torch.nn.Parameter] = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def train(self, training: bool) -> None:
        """Switch dropout on or off."""
        self._module.train(training)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the trained parameters."""
        return {name: each.detach().clone() for name, each in self.parameters.items()}

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the trained parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def autocast(self) -> Any:
        """A context in which products are computed in the run's dtype."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self.device.type, self._dtype, enabled=enabled)


def pick_device(wanted: str) -> torch.device:
    """The device to train on; ConfigurationError for CUDA where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("training.device: cuda, but torch finds no CUDA device")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def dtype_of(training: TrainingSettings) -> torch.dtype:
    """The type of a frozen base and of the products.

    Without AVX-512 a token in bfloat16 took 20 times as long as in float32 (SmolLM2-135M, AVX2).
    """
    if training.dtype != "auto":
        return _DTYPES[training.dtype]
    on_cpu = pick_device(training.device).type == "cpu"
    return torch.float32 if on_cpu and not platform.multiplies_bfloat16() else torch.bfloat16


def attention_for(device: torch.device) -> str:
    """The implementation of attention: on a CPU the plain one is faster for short batches."""
    return "sdpa" if device.type == "cuda" else "eager"


def give_back_memory() -> None:
    """Free the GPU memory of a model that nothing refers to any more, for other processes.

    The process keeps its CUDA context, some hundred MiB.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class LoraModel(TrainableModel):
    """A frozen base in `dtype` and a trainable float32 LoRA; products are computed in `dtype`."""

    def __init__(self, settings: FinetuneSettings) -> None:
        training = settings.training
        try:
            base = AutoModelForCausalLM.from_pretrained(
                settings.base.path,
                dtype=dtype_of(training),
                attn_implementation=attention_for(pick_device(training.device)),
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
        """The output layer at some positions only: (places, hidden) -> (places, vocabulary)."""
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


def batch_loss(model: LoraModel, examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
    """The sum of the examples' weighted losses, in nats, and the sum of their weights.

    A label's loss is -log P(label): the sum over the branches on its path in the label trie, at
    each of which the probability is normalised over the branch's alternatives
    (`LabelTrie.combine`). An answer's loss is the sum over its tokens, and its weight counts once
    per token.
    """
    states = model.hidden(*pad(examples, model.device))
    if examples[0].choices:
        return _label_loss(model, states, examples), sum(each.weight for each in examples)
    return _answer_loss(model, states, examples)


def pad(
    examples: Sequence[Example], device: torch.device, padding: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of the examples and their mask, 1 for each token: (examples, longest)."""
    length = max(len(example.token_ids) for example in examples)
    token_ids = torch.full((len(examples), length), padding, dtype=torch.long)
    mask = torch.zeros(len(examples), length, dtype=torch.long)
    for row, example in enumerate(examples):
        token_ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        mask[row, : len(example.token_ids)] = 1
    return token_ids.to(device), mask.to(device)


def _label_loss(
    model: LoraModel, states: torch.Tensor, examples: Sequence[Example]
) -> torch.Tensor:
    rows: dict[Branch, list[tuple[int, int, int, float]]] = defaultdict(list)
    for row, example in enumerate(examples):
        for choice in example.choices:
            rows[choice.branch].append((row, choice.position, choice.chosen, example.weight))
    total = states.new_zeros((), dtype=torch.float32)
    for branch, places in rows.items():
        at, position, chosen, weight = zip(*places, strict=True)
        logits = model.logits(states[list(at), list(position)])
        shares = torch.stack(
            [
                logits[:, list(alternative.token_ids)].logsumexp(dim=1)
                for alternative in branch.alternatives
            ],
            dim=1,
        ).log_softmax(dim=1)
        said = shares[torch.arange(len(chosen)), torch.tensor(chosen)]
        total = total - (said * torch.tensor(weight, device=said.device)).sum()
    return total


def _answer_loss(
    model: LoraModel, states: torch.Tensor, examples: Sequence[Example]
) -> tuple[torch.Tensor, float]:
    row, position, said = [], [], []
    for number, example in enumerate(examples):
        for at in range(example.answer_at, len(example.token_ids)):
            row.append(number)
            position.append(at - 1)
            said.append(example.token_ids[at])
    logits = model.logits(states[row, position])
    wanted = torch.tensor(said, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"), float(len(said))


class HeadModel(TrainableModel):
    """The base as transformers' class for sequence classification, with a new head of the labels.

    Layers between the encoder and the head (BERT's pooler) are trained together with the head.
    """

    def __init__(self, settings: FinetuneSettings, task: LabelSet) -> None:
        training, names = settings.training, tuple(task.labels)
        kind = "multi_label_classification" if task.multi_label else "single_label_classification"
        torch.manual_seed(training.seed)
        try:
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                settings.base.path,
                dtype=torch.float32,
                attn_implementation=attention_for(pick_device(training.device)),
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
        token_ids, mask = pad(examples, self.device, padding)
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
