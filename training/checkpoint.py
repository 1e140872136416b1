"""State of a training on disk: complete or absent, and only for the run that wrote it."""

import hashlib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from service.common.files import file_digest, write_atomically
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from training.config import FinetuneSettings

FILE = "checkpoint.pt"
# These settings do not change the trained weights.
_FREE = {"evaluation", "output", "work", "summary", "limits", "version"}


@dataclass(slots=True)
class TrainingState:
    """The state on which the next step depends, and the curve so far.

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


def fingerprint(settings: FinetuneSettings) -> str:
    """Identity of a checkpoint's run: the settings of the training, the data, the base."""
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
        write_atomically(folder / FILE, buffer.getvalue())
    except OSError as error:
        raise ConfigurationError(
            f"work: the checkpoint of {buffer.tell()} bytes cannot be written: {error.strerror}"
        ) from error


def load_checkpoint(folder: Path, belongs_to: str) -> TrainingState | None:
    """The folder's checkpoint, None if there is none.

    Raises ConfigurationError for one of another configuration, data or base, and one that cannot
    be read.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        # Tensors and plain values only, so loading runs no code.
        stored = torch.load(file, weights_only=True)
        state = TrainingState(**stored["state"])
    except Exception as error:
        raise ConfigurationError(f"{file}: cannot be read; delete it to start anew") from error
    if stored["belongs_to"] != belongs_to:
        raise ConfigurationError(
            f"{file}: belongs to another configuration, data or base; delete it to start anew"
        )
    return state


def _plain(state: TrainingState) -> dict[str, Any]:
    plain: dict[str, Any] = {name: getattr(state, name) for name in asdict(TrainingState())}
    return plain
