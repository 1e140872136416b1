"""Files that tell of a run beside its weights: golden examples, diagrams and the card."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.adapters.formats import AdapterRefused
from training.card import TrainingReport, evaluation_block, write_card
from training.config import FinetuneSettings
from training.evaluation import GOLDEN_FILE, Evaluation, generation_golden
from training.golden_choice import choose_golden
from training.plots import plot_confusion, plot_reliability, plot_risk, plot_training
from training.run import Prepared


@dataclass(frozen=True, slots=True)
class Told:
    """The manifest's sections on what was measured; `golden` is None where nothing was."""

    golden: dict[str, Any] | None
    evaluation: dict[str, Any]


def write_report(
    folder: Path,
    settings: FinetuneSettings,
    prepared: Prepared,
    report: TrainingReport,
    evaluation: Evaluation | None,
) -> Told:
    """Write the files; AdapterRefused if no measured line can be a golden example."""
    plot_training(folder / "training.png", report.state)
    told, golden = "", None
    if evaluation is not None:
        told, golden = _write_golden(folder, settings, evaluation)
        _plot(folder, prepared, evaluation)
    measured = (evaluation.figures, evaluation.base) if evaluation is not None else None
    card = write_card(settings, report, measured, told)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return Told(golden, evaluation_block(settings, report, measured))


def _write_golden(
    folder: Path, settings: FinetuneSettings, evaluation: Evaluation
) -> tuple[str, dict[str, Any]]:
    wanted = settings.evaluation
    chosen = choose_golden(evaluation.candidates, wanted.golden, settings.training.seed)
    if not chosen:
        raise AdapterRefused(
            settings.name,
            GOLDEN_FILE,
            "cannot be filled",
            "lines that the adapter answers correctly and the base does not",
            f"none of {len(evaluation.candidates)}",
        )
    lines = [json.dumps(each.line, ensure_ascii=False) + "\n" for each in chosen]
    (folder / GOLDEN_FILE).write_text("".join(lines), encoding="utf-8")
    kind = "held-out lines" if wanted.golden_file is None else "lines written as examples"
    base_right = sum(each.base_right for each in chosen)
    compared = (
        "" if evaluation.base is None else f"; the base answers {base_right} of them correctly"
    )
    told = (
        f"Its {len(chosen)} golden examples are {kind} that it answers correctly{compared}. At "
        f"least {math.ceil(wanted.golden_accuracy * len(chosen))} must pass before it serves."
    )
    if settings.task == "classification":
        return told, {"file": GOLDEN_FILE, "min_accuracy": wanted.golden_accuracy}
    return told, generation_golden(settings).model_dump()


def _plot(folder: Path, prepared: Prepared, evaluation: Evaluation) -> None:
    if evaluation.reliability:
        plot_reliability(folder / "reliability.png", evaluation.reliability)
    if evaluation.risk is not None:
        plot_risk(folder / "risk.png", *evaluation.risk)
    if evaluation.confusion is not None and prepared.task is not None:
        names: Sequence[str] = tuple(prepared.task.labels)
        plot_confusion(folder / "confusion.png", names, evaluation.confusion)
