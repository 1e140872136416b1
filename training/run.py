"""One run, from lines to trained weights."""

import importlib.metadata
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from service.adapters.manifest import LabelSet
from training.batches import padding
from training.card import TrainingReport
from training.checkpoint import fingerprint
from training.config import FinetuneSettings
from training.example import ExampleEncoder, balanced
from training.head_example import HeadEncoder
from training.head_model import HeadModel
from training.length import Fitted, LineEncoder, check_context, fit
from training.lines import Line, read_file, read_lines
from training.lora import LoraModel
from training.loss import batch_loss
from training.split import Split, split_lines
from training.task import classification_task
from training.training import Loss, Training

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The lines of a run, split; candidates for golden examples; the label set, if it classifies.

    `fitted` are the data's lines before the split; `encoder` makes examples of lines.
    """

    split: Split
    golden: Sequence[Line]
    task: LabelSet | None
    fitted: Fitted
    encoder: LineEncoder


def prepare(settings: FinetuneSettings) -> Prepared:
    """Read, fit and split the lines; ConfigurationError for lines that cannot be used.

    Faults that would appear only at measuring, after the training, are checked here too.
    """
    lines = read_lines(settings)
    task = classification_task(settings, lines)
    encoder = _line_encoder(settings, task)
    fitted = fit(lines, encoder, settings)
    split = split_lines(fitted.lines, settings.split, settings.training.seed)
    golden, asked = split.test, split.test
    file = settings.evaluation.golden_file
    if file is not None:
        own = read_file(settings, file, None if task is None else task.labels)
        golden = fit(own, encoder, settings).lines
        asked = [*asked, *golden]
    if task is not None:
        asked = [*split.validation, *split.calibration, *asked]
    check_context(asked, encoder, settings)
    _log.info(
        "%s: %s; %d duplicates removed, %d over-long lines dropped, %d cut",
        settings.name,
        ", ".join(f"{count} {part}" for part, count in split.sizes.items()),
        split.duplicates,
        fitted.dropped,
        fitted.truncated,
    )
    return Prepared(split, golden, task, fitted, encoder)


def train(settings: FinetuneSettings, prepared: Prepared) -> tuple[Path, TrainingReport]:
    """Train, or continue from the work folder's checkpoint.

    Returns the folder of the weights (PEFT's, or the whole encoder with its head) and a report.
    """
    training = settings.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    split, encoder = prepared.split, prepared.encoder
    examples, held = encoder.encode(split.train), encoder.encode(split.validation)
    if training.class_weights == "balanced":
        examples = balanced(examples)
    model, loss = _trainee(settings, prepared.task)
    run = Training(model, loss, examples, held, training)
    state = run.run(settings.work, fingerprint(settings))
    folder = settings.work / "trained"
    shutil.rmtree(folder, ignore_errors=True)
    model.save(folder)
    report = TrainingReport(
        state=state,
        split=split,
        dropped=prepared.fitted.dropped,
        truncated=prepared.fitted.truncated,
        tokens=sum(batch.tokens for batch in run.plan.batches[: state.step]),
        padding=padding(run.plan.batches),
        trained_with={name: importlib.metadata.version(name) for name in _libraries(settings)},
    )
    return folder, report


def _line_encoder(settings: FinetuneSettings, task: LabelSet | None) -> LineEncoder:
    if settings.head is not None and task is not None:
        return HeadEncoder(settings, task)
    return ExampleEncoder(settings, task)


def _trainee(
    settings: FinetuneSettings, task: LabelSet | None
) -> tuple[LoraModel | HeadModel, Loss]:
    if settings.head is not None and task is not None:
        head = HeadModel(settings, task)
        return head, head.loss
    lora = LoraModel(settings)
    return lora, partial(batch_loss, lora)


def _libraries(settings: FinetuneSettings) -> tuple[str, ...]:
    return ("torch", "transformers", *(() if settings.head is not None else ("peft",)))
