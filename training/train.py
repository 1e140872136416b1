"""Training of the weights: seeded, resumable at any step, stopped when it no longer improves."""

import hashlib
import importlib.metadata
import io
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Never

import torch
from tqdm import tqdm

from service.adapters.manifest import LabelSet
from service.common.files import file_digest, write_atomically
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from training.batches import Batch, batches_by_length, padding, plan_batches
from training.config import FinetuneSettings, TrainingSettings
from training.examples import Example, balance
from training.models import HeadModel, LoraModel, TrainableModel, batch_loss
from training.prepare import Prepared, Split

CHECKPOINT_FILE = "checkpoint.pt"
# These settings do not change the trained weights.
_FREE = {"evaluation", "output", "work", "summary", "limits", "version"}
Loss = Callable[[Sequence[Example]], tuple[torch.Tensor, float]]
"""The sum of a batch's weighted losses, in nats, and the sum of their weights."""


@dataclass(slots=True)
class TrainingState:
    """The training state that determines the next step, and the loss curve so far.

    `curve` holds (step, training loss per step), `looks` (step, validation loss); `best` are the
    adapter's weights at the lowest validation loss.
    """

    step: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    random: torch.Tensor | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_step: int = 0
    seconds: float = 0.0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Facts of a training: its state at the end, its lines, and its versions."""

    state: TrainingState
    split: Split
    dropped: int
    truncated: int
    tokens: int
    padding: float
    trained_with: Mapping[str, str]


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
        examples = balance(examples)
    model, loss = _model_and_loss(settings, prepared.task)
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


def _model_and_loss(
    settings: FinetuneSettings, task: LabelSet | None
) -> tuple[LoraModel | HeadModel, Loss]:
    if settings.head is not None and task is not None:
        head = HeadModel(settings, task)
        return head, head.loss
    lora = LoraModel(settings)
    return lora, partial(batch_loss, lora)


def _libraries(settings: FinetuneSettings) -> tuple[str, ...]:
    return ("torch", "transformers", *(() if settings.head is not None else ("peft",)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of a training, and the steps after which the validation loss is measured."""

    batches: Sequence[Batch]
    looks: frozenset[int]

    @classmethod
    def of(cls, examples: Sequence[Example], settings: TrainingSettings) -> "Plan":
        """The plan for a number of epochs; measurements are spread evenly, the last at the end."""
        batches = plan_batches(examples, settings.batch_tokens, settings.seed, settings.epochs)
        count = min(len(batches), max(1, round(settings.epochs * settings.evaluations)))
        return cls(
            batches, frozenset(round(len(batches) * each / count) for each in range(1, count + 1))
        )


class Training:
    """Trains a model on examples, from the checkpoint of its work folder if there is one.

    A run that is killed and resumed gives the same result as an uninterrupted one: the order
    follows from the seed, and a checkpoint holds the optimiser and the random state.
    """

    def __init__(
        self,
        model: TrainableModel,
        loss: Loss,
        train: Sequence[Example],
        validation: Sequence[Example],
        settings: TrainingSettings,
    ) -> None:
        self._model = model
        self._loss = loss
        self._train = train
        self._validation = validation
        self._settings = settings
        self.plan = Plan.of(train, settings)
        self._optimiser = torch.optim.AdamW(
            model.parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def run(self, work: Path, belongs_to: str) -> TrainingState:
        """Train to the end and return the state; the model then has its best weights."""
        work.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self._settings.seed)
        state = load_checkpoint(work, belongs_to) or TrainingState()
        self._restore(state)
        saved = started = time.monotonic()
        before = state.seconds
        with self._bar(state) as bar:
            while not state.finished:
                self._step(state, bar)
                state.seconds = before + time.monotonic() - started
                due = time.monotonic() - saved >= self._settings.checkpoint_s
                if state.finished or due:
                    self._capture(state)
                    save_checkpoint(work, state, belongs_to)
                    saved = time.monotonic()
        self._model.load(state.best)
        self._model.train(False)
        return state

    def _step(self, state: TrainingState, bar: "tqdm[Never]") -> None:
        batch = self.plan.batches[state.step]
        self._model.train(True)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(state.step)
        total, weight = self._loss([self._train[index] for index in batch.indices])
        loss = total / weight
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters.values(), self._settings.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        state.step += 1
        state.curve.append((state.step, loss.item()))
        bar.update(batch.tokens)
        if state.step in self.plan.looks:
            self._look(state)
        recent = [each for _, each in state.curve[-50:]]
        bar.set_postfix(
            loss=f"{sum(recent) / len(recent):.4f}",
            validation=f"{state.looks[-1][1]:.4f}" if state.looks else "-",
            refresh=False,
        )
        state.finished = state.finished or state.step == len(self.plan.batches)

    def _look(self, state: TrainingState) -> None:
        loss = self.validation_loss()
        if loss < min((each for _, each in state.looks), default=math.inf):
            state.best, state.best_step = self._model.weights(), state.step
        state.looks.append((state.step, loss))
        since = sum(1 for step, _ in state.looks if step > state.best_step)
        state.finished = since >= self._settings.patience

    def validation_loss(self) -> float:
        """The mean weighted loss of the validation examples, in nats."""
        self._model.train(False)
        totals = weights = 0.0
        with torch.inference_mode():
            for batch in batches_by_length(self._validation, self._settings.batch_tokens):
                examples = [self._validation[index] for index in batch.indices]
                total, weight = self._loss(examples)
                totals += total.item()
                weights += weight
        return totals / weights

    def _rate(self, step: int) -> float:
        """The learning rate of a step: up linearly in the warm-up, then down half a cosine."""
        steps, settings = len(self.plan.batches), self._settings
        rise = max(1, round(settings.warmup * steps))
        if step < rise:
            return settings.learning_rate * (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _restore(self, state: TrainingState) -> None:
        if state.step:
            self._model.load(state.weights)
            self._optimiser.load_state_dict(state.optimiser)
        if state.random is not None:
            torch.set_rng_state(state.random)

    def _capture(self, state: TrainingState) -> None:
        state.weights = self._model.weights()
        state.optimiser = self._optimiser.state_dict()
        state.random = torch.get_rng_state()

    def _bar(self, state: TrainingState) -> "tqdm[Never]":
        tokens = [batch.tokens for batch in self.plan.batches]
        return tqdm(
            desc="training",
            total=sum(tokens),
            initial=sum(tokens[: state.step]),
            unit="tok",
            unit_scale=True,
            mininterval=1.0,
        )


def fingerprint(settings: FinetuneSettings) -> str:
    """Identifies the run that a checkpoint belongs to: training settings, data and base."""
    parts = [
        settings.model_dump_json(exclude=_FREE | {"base", "data"}),
        settings.data.model_dump_json(include={"max_tokens", "over_long"}),
        *(file_digest(file) for file in settings.data.files),
        base_model_digest(settings.base.path),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save_checkpoint(folder: Path, state: TrainingState, belongs_to: str) -> None:
    """Replace the folder's checkpoint in one step; ConfigurationError if it cannot be written."""
    buffer = io.BytesIO()
    torch.save({"belongs_to": belongs_to, "state": _plain(state)}, buffer)
    try:
        write_atomically(folder / CHECKPOINT_FILE, buffer.getvalue())
    except OSError as error:
        raise ConfigurationError(
            f"work: the checkpoint of {buffer.tell()} bytes cannot be written: {error.strerror}"
        ) from error


def load_checkpoint(folder: Path, belongs_to: str) -> TrainingState | None:
    """The folder's checkpoint, None if there is none.

    Raises ConfigurationError for one of another configuration, data or base, and one that cannot
    be read.
    """
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        return None
    try:
        # Tensors and plain values only, so loading runs no code.
        stored = torch.load(file, weights_only=True)
        state = TrainingState(**stored["state"])
    except Exception as error:
        raise ConfigurationError(f"{file}: cannot be read; --restart starts anew") from error
    if stored["belongs_to"] != belongs_to:
        raise ConfigurationError(
            f"{file}: belongs to another configuration, data or base; --restart starts anew"
        )
    return state


def _plain(state: TrainingState) -> dict[str, Any]:
    plain: dict[str, Any] = {name: getattr(state, name) for name in asdict(TrainingState())}
    return plain
