"""The configuration of one fine-tuning run: a YAML file, strict and frozen."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from service.adapters.confidence import Match
from service.adapters.manifest import License, Name, PromptTemplate, Version
from service.adapters.peft_config import MAX_ALPHA
from service.common.plain_yaml import read_mapping, validated
from service.settings.section import Section
from service.settings.tree import ModelSettings

Task = Literal["classification", "generation", "pretraining"]


class DataSettings(Section):
    """Files of the lines, and the policy for lines that are too long."""

    files: Annotated[tuple[Path, ...], Field(min_length=1)] = Field(
        description="JSON Lines, relative to this file."
    )
    name: str = Field(min_length=1, description="What the data is called on the model card.")
    licence: str = Field(min_length=1, description="The data's licence, for the model card.")
    max_tokens: int = Field(256, ge=8, description="Longest line, prompt and answer together.")
    over_long: Literal["refuse", "drop", "truncate"] = Field(
        "refuse",
        description="A longer line: end the run, leave it out, or cut its text at the end "
        "(classification only). Pre-training always cuts a long text into several.",
    )


class SplitSettings(Section):
    """Shares of the held-out parts; the rest is for training. A group is never split."""

    validation: float = Field(
        0.05, gt=0, lt=1, description="For early stopping and the temperature."
    )
    calibration: float = Field(
        0.1, ge=0, lt=1, description="For the conformal threshold; 0 unless it classifies."
    )
    test: float = Field(0.1, gt=0, lt=1, description="For the figures on the card.")
    calibration_from_test: bool = Field(
        False,
        description="Calibration lines come from the test's groups (no line is in both): for few "
        "and unlike groups, among which a conformal promise needs lines of the same ones.",
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        held = self.validation + self.calibration + self.test
        if held > 0.9:
            raise ValueError(f"the held-out shares are at most 0.9 together, got {held:g}")
        return self


class LoraSettings(Section):
    """The adapter's shape (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(8, ge=1, le=256, description="At most the engine's `max_lora_rank`.")
    alpha: float = Field(
        16.0, gt=0, le=MAX_ALPHA, description="The update is scaled by alpha / rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On the adapter's input, in training.")
    modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="Projections that get a LoRA.",
    )
    last_layers: int | None = Field(
        None, ge=1, description="Only so many of the last layers: faster, nothing flows below."
    )


class HeadSettings(Section):
    """A classification head on an encoder: its labels are those of the lines."""

    last_layers: int | None = Field(
        None,
        ge=0,
        description="Only so many of the encoder's last layers learn with the head, and no "
        "embedding; 0: the head alone. Default: everything learns.",
    )


class TrainingSettings(Section):
    """Length and speed of the training."""

    epochs: float = Field(2.0, gt=0, le=100, description="Passes over the training lines.")
    batch_tokens: int = Field(1024, ge=8, description="Tokens in a batch, padding included.")
    learning_rate: float = Field(4e-4, gt=0, le=1, description="Its peak; AdamW.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps that rise to it.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: rare labels weigh as much as frequent ones."
    )
    seed: int = Field(0, ge=0, description="Of the split, the order, dropout and A's start.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: CUDA if there.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Of the frozen base and the products; the adapter stays float32. `auto`: "
        "bfloat16, or float32 on processors without products in bfloat16.",
    )
    threads: int | None = Field(None, ge=1, description="Of the CPU; default all.")
    evaluations: int = Field(4, ge=1, description="Looks at the validation loss per epoch.")
    patience: int = Field(4, ge=1, description="Looks without a better loss that end the run.")
    checkpoint_s: float = Field(60.0, ge=0, description="Seconds between checkpoints.")


class EvaluationSettings(Section):
    """Measurements on the served engine, and the choice of golden examples."""

    engine: dict[str, Any] = Field(
        default_factory=dict, description="vLLM's engine arguments, as in the service's own file."
    )
    coverage: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Of the conformal sets; an adapter that is right more often "
        "than this answers some inputs with an empty set, that is, abstains.",
    )
    golden_file: Path | None = Field(
        None,
        description="Lines like those of `data.files` to choose golden examples from, relative to "
        "this file; default the test lines. For data that may not be published.",
    )
    golden: int = Field(16, ge=1, le=1000, description="Golden examples.")
    golden_accuracy: float = Field(0.9, gt=0, le=1, description="What they must reach.")
    match: Match = Field("exact", description="How a generation's golden answers are compared.")
    max_tokens: int = Field(128, ge=1, le=4096, description="Longest answer of a generation.")
    lines: int | None = Field(
        None, ge=1, description="At most so many lines each of calibration and test; default all."
    )


class FinetuneSettings(Section):
    """One adapter or head: its data, shape, training and output folder."""

    name: Name
    version: Version
    summary: str = Field(min_length=1, description="A sentence for the model card.")
    limits: str | None = Field(None, description="What it is not good for, for the model card.")
    license: License | None = Field(None, description="Of the adapter, for its manifest.")
    base_license: License | None = Field(None, description="Of the base, for the manifest.")
    task: Task
    base: ModelSettings
    data: DataSettings
    prompt: PromptTemplate | None = Field(
        None, description="Needed for classification, unless it is by a head."
    )
    labels: dict[str, str] | None = Field(
        None, description="Public name -> words; default the labels of the data, spelled."
    )
    multi_label: bool = False
    split: SplitSettings = SplitSettings()
    lora: LoraSettings = LoraSettings()
    head: HeadSettings | None = Field(
        None, description="Train a head: the base is an encoder, and there is no LoRA."
    )
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    work: Path = Field(description="Checkpoints and drafts, relative to this file.")
    output: Path = Field(description="The adapter's folder, relative to this file.")

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        classifies = self.task == "classification"
        if self.head is not None:
            self._fits_a_head()
        elif classifies and self.prompt is None:
            raise ValueError("prompt: a classification needs its template")
        if classifies != (self.split.calibration > 0):
            raise ValueError(
                "split.calibration: above 0 for classification and 0 for everything else, "
                f"got {self.split.calibration:g} for {self.task}"
            )
        if not classifies and (self.labels is not None or self.multi_label):
            raise ValueError(f"labels, multi_label: only for classification, task is {self.task}")
        served = self.evaluation.engine.get("max_lora_rank")
        if isinstance(served, int) and self.lora.rank > served:
            raise ValueError(
                f"lora.rank: {self.lora.rank} is more than evaluation.engine.max_lora_rank {served}"
            )
        if not classifies and self.data.over_long == "truncate":
            raise ValueError(
                "data.over_long: truncate is for classification only, since an answer cut short "
                f"would be learnt, task is {self.task}"
            )
        return self

    def _fits_a_head(self) -> None:
        if self.task != "classification":
            raise ValueError(f"head: only for classification, task is {self.task}")
        for key in ("prompt", "labels", "lora"):
            if key in self.model_fields_set:
                raise ValueError(f"{key}: a head has none; leave it out, or leave out head")


def load_finetune_settings(file: Path) -> FinetuneSettings:
    """Read a run's file; ConfigurationError with one line per problem, each naming its key."""
    tree = read_mapping(file)
    _anchor(tree, file.resolve().parent)
    return validated(FinetuneSettings, tree, file)


def _anchor(tree: dict[str, Any], folder: Path) -> None:
    """Make the file's own paths relative to the file, wherever the command is started."""

    def anchored(path: Any) -> Any:
        return os.path.normpath(folder / path) if isinstance(path, str) else path

    for key in ("work", "output"):
        if key in tree:
            tree[key] = anchored(tree[key])
    data = tree.get("data")
    for section, key in (("base", "path"), ("evaluation", "golden_file")):
        holder = tree.get(section)
        if isinstance(holder, dict) and key in holder:
            holder[key] = anchored(holder[key])
    if isinstance(data, dict) and isinstance(data.get("files"), list):
        data["files"] = [anchored(path) for path in data["files"]]
