"""Steps after a head's training: measure on the served engine, pack, prove, move to `output`."""

import shutil
from pathlib import Path

from service.adapters.golden import GoldenRefusal, labelled_examples
from service.adapters.head_proof import fingerprint_of, prove_head
from service.adapters.heads import HeadManifest, HeadRefused, load_manifest
from service.adapters.manifest import BaseReference, ClassificationGolden
from service.engine.pooling import Pooler
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from service.models.model_files import pin_folder
from training.assembly import beside
from training.card import TrainingReport
from training.config import FinetuneSettings
from training.evaluation import Evaluation, evaluate_head
from training.report_files import write_report
from training.run import Prepared
from training.served import encoder_of

_PROOF_SECONDS = 300.0


async def measure_and_pack_head(
    settings: FinetuneSettings, prepared: Prepared, trained: Path, report: TrainingReport
) -> Evaluation:
    """Measure the encoder with its head, pack and prove it, move it to its place.

    Raises HeadRefused when it fails its proof; the output folder is then unchanged.
    """
    async with encoder_of(settings, trained) as engine:
        evaluation = await evaluate_head(engine, settings, prepared)
        with beside(settings.output) as folder:
            # Contents alone: the saved weights can be read by their owner only.
            shutil.copytree(trained, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
            await _pack(engine, folder, settings, prepared, report, evaluation)
            await prove_head(engine, folder, _PROOF_SECONDS)
    return evaluation


async def measure_packed_head(settings: FinetuneSettings, prepared: Prepared) -> Evaluation:
    """Measure the head in the run's output folder again, as packed; nothing is written."""
    head = load_manifest(settings.output)
    if head is None:
        raise ConfigurationError(f"output: {settings.output.name} holds no head")
    async with encoder_of(settings, settings.output) as engine:
        return await evaluate_head(engine, settings, prepared, head.calibration)


async def _pack(
    engine: Pooler,
    folder: Path,
    settings: FinetuneSettings,
    prepared: Prepared,
    report: TrainingReport,
    evaluation: Evaluation,
) -> None:
    """Write the report, the manifest and the list of digests into a folder of weights."""
    assert prepared.task is not None
    assert evaluation.calibration is not None
    told = write_report(folder, settings, prepared, report, evaluation)
    golden = ClassificationGolden.model_validate(told.golden)
    labels, multi_label = tuple(prepared.task.labels), prepared.task.multi_label
    refuse = GoldenRefusal(settings.name, golden.file, HeadRefused)
    examples = labelled_examples(folder, refuse, labels, multi_label=multi_label)
    HeadManifest(
        name=settings.name,
        version=settings.version,
        license=settings.license,
        base_model=BaseReference(
            name=settings.base.name, digest=base_model_digest(settings.base.path)
        ),
        base_license=settings.base_license,
        labels=labels,
        multi_label=multi_label,
        calibration=evaluation.calibration,
        golden=golden,
        fingerprint=await fingerprint_of(engine, examples, _PROOF_SECONDS),
        evaluation=told.evaluation,
    ).write(folder)
    pin_folder(folder, f"{settings.name}@{settings.version}")
