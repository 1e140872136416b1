"""Files beside the weights: golden examples, diagrams, and the model card with its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.common.command_line import markdown_table
from training.config import FinetuneSettings
from training.figures import ClassificationFigures, GenerationFigures
from training.golden import write_golden
from training.measure import Evaluation
from training.plots import plot_confusion, plot_reliability, plot_risk, plot_training
from training.prepare import Prepared
from training.train import TrainingReport

_CONFUSIONS = 8
_BESIDE_BASE = ("adapter", "base, same prompts")
_ALONE = ("head",)
Figures = ClassificationFigures | GenerationFigures
Measured = tuple[Figures, Figures | None]
"""The adapter's figures and the base's, or a head's alone."""


def write_report(
    folder: Path,
    settings: FinetuneSettings,
    prepared: Prepared,
    report: TrainingReport,
    evaluation: Evaluation | None,
) -> dict[str, Any]:
    """Write the files; return the manifest's sections `evaluation` and, if measured, `golden`.

    Raises AdapterRefused if no measured line can be a golden example.
    """
    plot_training(folder / "training.png", report.state)
    sections: dict[str, Any] = {}
    sentence, measured = "", None
    if evaluation is not None:
        measured = evaluation.figures, evaluation.base
        sentence, sections["golden"] = write_golden(
            folder, settings, evaluation.candidates, has_base=evaluation.base is not None
        )
        _plot(folder, prepared, evaluation)
    card = _write_card(settings, report, measured, sentence)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return sections | {"evaluation": _evaluation_block(settings, report, measured)}


def _plot(folder: Path, prepared: Prepared, evaluation: Evaluation) -> None:
    if evaluation.reliability:
        plot_reliability(folder / "reliability.png", evaluation.reliability)
    if evaluation.risk is not None:
        plot_risk(folder / "risk.png", *evaluation.risk)
    if evaluation.confusion is not None and prepared.task is not None:
        names: Sequence[str] = tuple(prepared.task.labels)
        plot_confusion(folder / "confusion.png", names, evaluation.confusion)


def _evaluation_block(
    settings: FinetuneSettings, report: TrainingReport, measured: Measured | None
) -> dict[str, object]:
    """The manifest's `evaluation`: plain values, figures rounded to four places."""
    block: dict[str, object] = {
        "dataset": settings.data.name,
        "lines": report.split.sizes,
        "duplicates_removed": report.split.duplicates,
        "over_long": {"dropped": report.dropped, "truncated": report.truncated},
    }
    if measured is not None:
        block["test"] = plain_figures(measured[0])
        if measured[1] is not None:
            block["test_of_the_base"] = _short(measured[1])
    block["trained_with"] = {
        **report.trained_with,
        "seed": settings.training.seed,
        "steps": report.state.step,
        "kept_step": report.state.best_step,
        "validation_loss": round(min(loss for _, loss in report.state.looks), 4),
        "seconds": round(report.state.seconds),
    }
    return block


def plain_figures(figures: Figures) -> dict[str, object]:
    """Figures as plain values for a manifest or JSON, with the most frequent confusions only."""
    match figures:
        case ClassificationFigures():
            return _short(figures) | {
                "ece_uncalibrated": round(figures.ece_before, 4),
                "ece": round(figures.ece, 4),
                "conformal": [
                    {
                        "coverage": each.coverage,
                        "measured": round(each.measured, 4),
                        "mean_size": round(each.mean_size, 4),
                        "empty": round(each.empty, 4),
                    }
                    for each in figures.conformal
                ],
            }
        case GenerationFigures():
            return _short(figures)


def _short(figures: Figures) -> dict[str, object]:
    match figures:
        case ClassificationFigures():
            return {
                "lines": figures.lines,
                "labels": figures.tested_labels,
                "accuracy": round(figures.accuracy, 4),
                "macro_f1": round(figures.macro_f1, 4),
            }
        case GenerationFigures():
            short: dict[str, object] = {
                "lines": figures.lines,
                "exact_match": round(figures.exact_match, 4),
                "chrf": round(figures.chrf, 2),
                "bleu": round(figures.bleu, 2),
            }
            if figures.valid_json is not None:
                short["valid_json"] = round(figures.valid_json, 4)
            return short


def _write_card(
    settings: FinetuneSettings, report: TrainingReport, measured: Measured | None, golden: str
) -> str:
    """The card as Markdown; `golden` is the sentence about the golden examples."""
    parts = [
        f"# {settings.name} {settings.version}\n\n{settings.summary}",
        _made(settings),
        _asked(settings),
        settings.limits or "",
    ]
    if measured is not None:
        parts.append(_measured(*measured))
    parts += [golden, _trained(settings, report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _made(settings: FinetuneSettings) -> str:
    if settings.head is not None:
        return (
            f"A classification head on {settings.base.name}. Calibration is in `head.json`, "
            "digests are in `model-files.json`."
        )
    return (
        f"A LoRA of rank {settings.lora.rank} on {settings.base.name}, "
        f"for {settings.task}. Digests and calibration are in `adapter.yaml`."
    )


def _asked(settings: FinetuneSettings) -> str:
    if settings.prompt is None:
        return ""
    return f"Its prompt:\n\n```\n{settings.prompt.template}\n```"


def _measured(figures: Figures, base: Figures | None) -> str:
    match figures, base:
        case ClassificationFigures(), ClassificationFigures() | None:
            return _measured_labels(figures, base)
        case GenerationFigures(), GenerationFigures():
            rows = [
                ("exact match", f"{figures.exact_match:.3f}", f"{base.exact_match:.3f}"),
                ("chrF", f"{figures.chrf:.1f}", f"{base.chrf:.1f}"),
                ("BLEU", f"{figures.bleu:.1f}", f"{base.bleu:.1f}"),
            ]
            if figures.valid_json is not None and base.valid_json is not None:
                both = f"{figures.valid_json:.3f}", f"{base.valid_json:.3f}"
                rows.insert(1, ("valid JSON", *both))
            return _table(figures.lines, _BESIDE_BASE, rows)
    raise TypeError("figures of two kinds")


def _measured_labels(figures: ClassificationFigures, base: ClassificationFigures | None) -> str:
    rows = [
        ("accuracy", f"{figures.accuracy:.3f}", f"{base.accuracy:.3f}" if base else ""),
        ("macro F1", f"{figures.macro_f1:.3f}", f"{base.macro_f1:.3f}" if base else ""),
        ("calibration error (ECE), as trained", f"{figures.ece_before:.3f}", ""),
        ("calibration error (ECE), calibrated", f"{figures.ece:.3f}", ""),
    ]
    for each in figures.conformal:
        rows.append((f"label sets of {each.coverage:.0%}: coverage", f"{each.measured:.3f}", ""))
        rows.append(("... mean size; share empty", f"{each.mean_size:.2f}; {each.empty:.3f}", ""))
    text = _table(figures.lines, _BESIDE_BASE if base else _ALONE, rows)
    text += f"\n\nThe test lines have {figures.tested_labels} different labels."
    if figures.confusions:
        shown = [f"{t} taken for {s} ({n})" for t, s, n in figures.confusions[:_CONFUSIONS]]
        text += f" Most frequent mistakes: {', '.join(shown)}."
    return text + (
        "\n\nDiagrams: [reliability](reliability.png), [errors by coverage](risk.png), "
        "[confusion](confusion.png), [training](training.png)."
    )


def _table(lines: int, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = f"Measured on {lines} held-out lines through the served engine:\n\n"
    return head + markdown_table(("", *columns), (row[: len(columns) + 1] for row in rows))


def _trained(settings: FinetuneSettings, report: TrainingReport) -> str:
    sizes, state, training = report.split.sizes, report.state, settings.training
    parts = ", ".join(f"{count} {part}" for part, count in sizes.items())
    last = settings.lora.last_layers if settings.head is None else settings.head.last_layers
    layers = "all" if last is None else f"the last {last} layers"
    return (
        f"## Training\n\nData: {settings.data.name}. Licence: {settings.data.licence}. "
        f"Lines: {parts}; {report.split.duplicates} duplicates removed, {report.dropped} too long "
        f"and dropped, {report.truncated} cut.\n\n"
        f"{report.tokens} tokens in {state.step} steps ({report.padding:.1%} padding), "
        f"{state.seconds:.0f} s, on {layers}; AdamW, learning rate {training.learning_rate:g} "
        f"at its peak, seed {training.seed}; kept: step {state.best_step}, validation loss "
        f"{min(loss for _, loss in state.looks):.4f} ([curve](training.png)). "
        f"With {', '.join(f'{name} {version}' for name, version in report.trained_with.items())}."
    )
