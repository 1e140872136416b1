"""Steps after the training: measure on the served engine, pack, prove, move to `output`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

from service.adapters import heads
from service.adapters.folder import list_files
from service.adapters.manifest import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    BaseReference,
    ClassificationManifest,
)
from service.adapters.manifest_yaml import load_manifest
from service.common.files import sync
from service.errors import ConfigurationError
from service.models.base_model import ServedBase, base_model_digest, read_base_model
from training.config import FinetuneSettings
from training.measure import Evaluation, evaluate, evaluate_head
from training.offline import OfflineModel, measuring_settings, offline_head, offline_model
from training.packing import pack
from training.prepare import Prepared
from training.report import write_report
from training.train import TrainingReport

_NO_DIGEST = "sha256:" + "0" * 64


async def measure_and_pack(
    settings: FinetuneSettings, prepared: Prepared, trained: Path, report: TrainingReport
) -> Evaluation | None:
    """Measure the adapter or head on the served engine, pack and prove it, move it to its place.

    After pretraining there is no proof, since there are no answers to compare. Raises
    AdapterRefused or HeadRefused when what was packed fails a check or its proof; the output folder
    is then unchanged.
    """
    if settings.head is not None:
        return await _measure_and_pack_head(settings, prepared, trained, report)
    if settings.task == "pretraining":
        with replacing(settings.output) as folder:
            draft = _fill(folder, settings, prepared, trained, report, None)
            pack(folder, _base(settings), draft)
        return None
    async with _engine_of(settings) as model:
        async with model.loaded(settings.name, trained, _NO_DIGEST) as adapter:
            evaluation = await evaluate(model, adapter, settings, prepared)
        with replacing(settings.output) as folder:
            draft = _fill(folder, settings, prepared, trained, report, evaluation)
            await model.pack(folder, _base(settings), draft)
    return evaluation


async def measure_packed(settings: FinetuneSettings, prepared: Prepared) -> Evaluation:
    """Measure what is in the run's output folder again, as packed; nothing is written."""
    output = settings.output
    if settings.head is not None:
        head = heads.load_manifest(output)
        if head is None:
            raise ConfigurationError(f"output: {output.name} holds no head")
        async with offline_head(settings.name, output, settings.evaluation.engine) as encoder:
            return await evaluate_head(encoder, settings, prepared, head.calibration)
    manifest = load_manifest(output)
    packed = None
    if isinstance(manifest, ClassificationManifest):
        packed = manifest.classification.calibration
    async with (
        _engine_of(settings) as model,
        model.loaded(manifest.name, output, manifest.digest) as adapter,
    ):
        return await evaluate(model, adapter, settings, prepared, packed)


def _engine_of(settings: FinetuneSettings) -> AbstractAsyncContextManager[OfflineModel]:
    return offline_model(
        measuring_settings(settings.base, settings.evaluation.engine, settings.lora.rank)
    )


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
    if prepared.task is not None and evaluation is not None:
        draft["classification"] = prepared.task.model_dump(mode="json") | {
            "calibration": (evaluation.calibration or prepared.task.calibration).model_dump(
                mode="json", exclude_none=True
            )
        }
    return draft | write_report(folder, settings, prepared, report, evaluation)


def _base(settings: FinetuneSettings) -> ServedBase:
    return read_base_model(settings.base.path, name=settings.base.name, max_rank=settings.lora.rank)


async def _measure_and_pack_head(
    settings: FinetuneSettings, prepared: Prepared, trained: Path, report: TrainingReport
) -> Evaluation:
    assert prepared.task is not None
    async with offline_head(settings.name, trained, settings.evaluation.engine) as encoder:
        evaluation = await evaluate_head(encoder, settings, prepared)
        with replacing(settings.output) as folder:
            # Without permissions: only the owner may read the trained weights.
            shutil.copytree(trained, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
            base = BaseReference(
                name=settings.base.name, digest=base_model_digest(settings.base.path)
            )
            draft = {
                "name": settings.name,
                "version": settings.version,
                "license": settings.license,
                "base_model": base,
                "base_license": settings.base_license,
                "labels": tuple(prepared.task.labels),
                "multi_label": prepared.task.multi_label,
                "calibration": evaluation.calibration,
            }
            draft |= write_report(folder, settings, prepared, report, evaluation)
            await encoder.pack(folder, draft)
    return evaluation


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new folder next to `output` that replaces it when the block succeeds.

    If the block fails the folder is removed and `output` is unchanged. A crash between the two
    renames leaves no `output`, but no crash leaves a partial one. A full disk is reported as
    ConfigurationError.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.partial-"))
    try:
        yield partial
        partial.chmod(0o755)
        for name in list_files(partial.name, partial):
            sync(partial / name)
        replaced = partial.with_name(f"{partial.name}.replaced")
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(f"output: {output.name} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
