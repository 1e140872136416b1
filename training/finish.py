"""Steps after the training: measure on the served engine, pack, prove, move to `output`."""

import itertools
import shutil
from pathlib import Path
from typing import Any

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE, ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import loaded, pack, pack_proven
from service.engine.protocol import Adapter
from service.models.base_model import ServedBase, read_base_model
from training.assembly import beside
from training.card import TrainingReport
from training.config import FinetuneSettings
from training.evaluation import Evaluation, evaluate
from training.head_finish import measure_and_pack_head, measure_packed_head
from training.report_files import write_report
from training.run import Prepared
from training.served import engine_of

_PROOF_SECONDS = 300.0


async def measure_and_pack(
    settings: FinetuneSettings,
    prepared: Prepared,
    trained_folder: Path,
    report: TrainingReport,
) -> Evaluation | None:
    """Measure the adapter or head on the served engine, pack and prove it, move it to its place.

    After pretraining there are no answers to compare, so no proof. Raises AdapterRefused or
    HeadRefused when what was packed fails a check or its proof; the output folder is then
    unchanged.
    """
    if settings.head is not None:
        return await measure_and_pack_head(settings, prepared, trained_folder, report)
    if settings.task == "pretraining":
        with beside(settings.output) as folder:
            pack(
                folder,
                _base(settings),
                _fill(folder, settings, prepared, trained_folder, report, None),
            )
        return None
    async with engine_of(settings) as engine:
        ids = itertools.count(1)
        trained = Adapter(settings.name, next(ids), str(trained_folder), "sha256:" + "0" * 64)
        async with loaded(engine, trained):
            evaluation = await evaluate(engine, trained, settings, prepared)
        with beside(settings.output) as folder:
            draft = _fill(folder, settings, prepared, trained_folder, report, evaluation)
            base, packing = _base(settings), next(ids)
            await pack_proven(engine, folder, base, draft, _PROOF_SECONDS, engine_id=packing)
    return evaluation


async def measure_packed(settings: FinetuneSettings, prepared: Prepared) -> Evaluation:
    """Measure what is in the run's output folder again, as packed; nothing is written."""
    if settings.head is not None:
        return await measure_packed_head(settings, prepared)
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
    draft: dict[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "task": "classification" if settings.task == "classification" else "generation",
        "license": settings.license,
        "base_license": settings.base_license,
    }
    if settings.prompt is not None:
        draft["prompt"] = settings.prompt.model_dump()
    told = write_report(folder, settings, prepared, report, evaluation)
    if told.golden is not None:
        draft["golden"] = told.golden
    if prepared.task is not None and evaluation is not None:
        draft["classification"] = prepared.task.model_dump(mode="json") | {
            "calibration": (evaluation.calibration or prepared.task.calibration).model_dump(
                mode="json", exclude_none=True
            )
        }
    draft["evaluation"] = told.evaluation
    return draft


def _base(settings: FinetuneSettings) -> ServedBase:
    return read_base_model(settings.base.path, name=settings.base.name, max_rank=settings.lora.rank)
