"""One run, from lines to trained weights."""

import importlib.metadata
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from service.adapters.manifest import Classification
from service.finetune.batches import padding
from service.finetune.card import TrainingReport
from service.finetune.checkpoint import fingerprint
from service.finetune.config import FinetuneSettings
from service.finetune.example import ExampleEncoder, balanced
from service.finetune.lines import Line, read_lines
from service.finetune.lora import LoraModel
from service.finetune.split import Split, split_lines
from service.finetune.task import classification_task
from service.finetune.tokeniser import BaseTokeniser
from service.finetune.training import Training

_log = logging.getLogger(__name__)
_LIBRARIES = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The lines of a run, split; those that may become golden; its label set if it classifies."""

    split: Split
    golden: Sequence[Line]
    task: Classification | None


def prepare(settings: FinetuneSettings) -> Prepared:
    """Read and split the lines; ConfigurationError for whatever cannot be used."""
    lines = read_lines(settings)
    task = classification_task(settings, lines)
    split = split_lines(lines, settings.split, settings.training.seed)
    _log.info(
        "%s: %s; %d duplicates removed",
        settings.name,
        ", ".join(f"{count} {part}" for part, count in split.sizes.items()),
        split.duplicates,
    )
    file = settings.evaluation.golden_file
    golden = split.test if file is None else read_lines(settings, [file])
    return Prepared(split, golden, task)


def train(settings: FinetuneSettings, prepared: Prepared) -> tuple[Path, TrainingReport]:
    """Train, or go on from the work folder's checkpoint; the folder of PEFT's files, the report."""
    training = settings.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    split = prepared.split
    encoder = ExampleEncoder(BaseTokeniser(settings.base.path), settings, prepared.task)
    lines, held = encoder.encode(split.train), encoder.encode(split.validation)
    examples = lines.examples
    if training.class_weights == "balanced":
        examples = balanced(examples)
    _log.info("over-long lines: %d dropped, %d cut", lines.dropped, lines.truncated)
    model = LoraModel(settings)
    run = Training(model, examples, held.examples, training)
    state = run.run(settings.work, fingerprint(settings))
    folder = settings.work / "peft"
    shutil.rmtree(folder, ignore_errors=True)
    model.save(folder)
    report = TrainingReport(
        state=state,
        split=split,
        dropped=lines.dropped,
        truncated=lines.truncated,
        tokens=sum(batch.tokens for batch in run.plan.batches[: state.step]),
        padding=padding(run.plan.batches),
        trained_with={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )
    return folder, report
