"""Steps after the training: measure on the served engine, pack, prove, move to `output`."""

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE, ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import pack
from service.adapters.refusal import AdapterRefused
from service.engine.protocol import Adapter
from service.finetune.assembly import beside
from service.finetune.card import TrainingReport, evaluation_block, write_card
from service.finetune.config import FinetuneSettings
from service.finetune.evaluation import GOLDEN_FILE, Evaluation, evaluate, generation_golden
from service.finetune.golden_choice import choose_golden
from service.finetune.plots import plot_confusion, plot_reliability, plot_training
from service.finetune.run import Prepared
from service.finetune.served import engine_of
from service.model.base_model import ServedBase, read_base_model
from service.proving.pack_proven import loaded, pack_proven

_PROOF_SECONDS = 300.0


async def measure_and_pack(
    settings: FinetuneSettings,
    prepared: Prepared,
    peft: Path,
    report: TrainingReport,
) -> Evaluation | None:
    """Measure the adapter on the served engine, pack and prove it, move it to its place.

    After pretraining there are no answers to compare, so no proof. Raises AdapterRefused when the
    packed adapter fails a check or its proof; the output folder is then unchanged.
    """
    if settings.task == "pretraining":
        with beside(settings.output) as folder:
            pack(folder, _base(settings), _fill(folder, settings, prepared, peft, report, None))
        return None
    async with engine_of(settings) as engine:
        ids = itertools.count(1)
        trained = Adapter(settings.name, next(ids), str(peft), "sha256:" + "0" * 64)
        async with loaded(engine, trained):
            evaluation = await evaluate(engine, trained, settings, prepared)
        with beside(settings.output) as folder:
            draft = _fill(folder, settings, prepared, peft, report, evaluation)
            base, packing = _base(settings), next(ids)
            await pack_proven(engine, folder, base, draft, _PROOF_SECONDS, engine_id=packing)
    return evaluation


async def measure_packed(settings: FinetuneSettings, prepared: Prepared) -> Evaluation:
    """Measure the adapter in the run's output folder again, as packed; nothing is written."""
    manifest = load_manifest(settings.output)
    packed = None
    if isinstance(manifest, ClassificationManifest):
        packed = manifest.classification.calibration
    adapter = Adapter(manifest.name, 1, str(settings.output), manifest.digest)
    async with engine_of(settings) as engine, loaded(engine, adapter):
        return await evaluate(engine, adapter, settings, prepared, packed)


def _fill(
    folder: Path,
    settings: FinetuneSettings,
    prepared: Prepared,
    peft: Path,
    report: TrainingReport,
    evaluation: Evaluation | None,
) -> dict[str, Any]:
    """Write all files but the manifest, whose draft is returned."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(peft / name, folder / name)
    plot_training(folder / "training.png", report.state)
    draft: dict[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "task": "classification" if settings.task == "classification" else "generation",
        "license": settings.license,
        "base_license": settings.base_license,
    }
    if settings.prompt is not None:
        draft["prompt"] = settings.prompt.model_dump()
    told = ""
    if evaluation is not None:
        told, draft["golden"] = _write_golden(folder, settings, evaluation)
        _plot(folder, prepared, evaluation)
    if prepared.task is not None and evaluation is not None:
        draft["classification"] = prepared.task.model_dump(mode="json") | {
            "calibration": (evaluation.calibration or prepared.task.calibration).model_dump(
                mode="json", exclude_none=True
            )
        }
    measured = (evaluation.figures, evaluation.base) if evaluation is not None else None
    draft["evaluation"] = evaluation_block(settings, report, measured)
    card = write_card(settings, report, measured, told)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return draft


def _base(settings: FinetuneSettings) -> ServedBase:
    return read_base_model(settings.base.path, name=settings.base.name, max_rank=settings.lora.rank)


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
    told = (
        f"Its {len(chosen)} golden examples are {kind} that it answers correctly; the base answers "
        f"{sum(each.base_right for each in chosen)} of them correctly. At least "
        f"{math.ceil(wanted.golden_accuracy * len(chosen))} must pass before it serves."
    )
    if settings.task == "classification":
        return told, {"file": GOLDEN_FILE, "min_accuracy": wanted.golden_accuracy}
    return told, generation_golden(settings).model_dump()


def _plot(folder: Path, prepared: Prepared, evaluation: Evaluation) -> None:
    if evaluation.reliability:
        plot_reliability(folder / "reliability.png", evaluation.reliability)
    if evaluation.confusion is not None and prepared.task is not None:
        names: Sequence[str] = tuple(prepared.task.labels)
        plot_confusion(folder / "confusion.png", names, evaluation.confusion)
