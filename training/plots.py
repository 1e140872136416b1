"""The diagrams beside a model card, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from service.classification.calibration import Array
from service.classification.reliability import ReliabilityBar
from training.train import TrainingState

_SMOOTHING = 20
_DPI = 80


def plot_training(file: Path, state: TrainingState) -> None:
    """The training loss, averaged over the last steps, and the validation loss."""
    figure, axes = _axes("step", "loss, nats")
    losses = [loss for _, loss in state.curve]
    smooth = [
        sum(losses[max(0, at - _SMOOTHING) : at + 1]) / min(at + 1, _SMOOTHING + 1)
        for at in range(len(losses))
    ]
    axes.plot([step for step, _ in state.curve], smooth, label="training")
    if state.looks:
        axes.plot(*zip(*state.looks, strict=True), marker="o", label="validation")
    axes.axvline(state.best_step, linestyle=":", color="grey", label="kept")
    axes.legend()
    _write(figure, file)


def plot_reliability(file: Path, bins: Sequence[ReliabilityBar]) -> None:
    """Accuracy by confidence; a bubble's area is its number of lines, the diagonal is perfect."""
    figure, axes = _axes("confidence", "accuracy")
    total = sum(each.count for each in bins)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.scatter(
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        s=[20 + 600 * each.count / total for each in bins],
        alpha=0.7,
    )
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.05)
    _write(figure, file)


def plot_risk(file: Path, coverage: Array, risk: Array) -> None:
    """The error rate among the most confident answers, by their share of all answers."""
    figure, axes = _axes("coverage", "share of errors")
    axes.plot(coverage, risk)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(bottom=0)
    _write(figure, file)


def plot_confusion(file: Path, names: Sequence[str], counts: Array) -> None:
    """Confusion matrix: for each true label (rows) the shares of predicted labels (columns)."""
    size = max(4.0, 0.22 * len(names))
    figure, axes = _axes("said", "true", size)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=6)
    axes.set_yticks(places, names, fontsize=6)
    if len(names) <= 6:
        for row in places:
            for column in places:
                axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", color="darkred")
    _write(figure, file)


def _axes(x: str, y: str, size: float = 5.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(size, size * 0.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _write(figure: Figure, file: Path) -> None:
    # Without the library's version, so that equal figures are equal bytes.
    figure.savefig(file, dpi=_DPI, metadata={"Software": None})
