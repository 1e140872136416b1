"""Classification by an adapter: its own template, labels and calibration."""

from collections.abc import Sequence

import numpy as np

from service.adapters.manifest import ClassificationManifest
from service.classification.adapter_frame import AdapterFrame
from service.classification.calibration import Array, Calibration
from service.classification.classifier import Classifier
from service.engine.conformal_sets import ConformalSets
from service.engine.protocol import Adapter, LabelEngine


def adapter_classifier(
    engine: LabelEngine, adapter: Adapter | None, manifest: ClassificationManifest
) -> Classifier:
    """The classifier of an adapter; without an adapter the base is asked the same.

    Raises InvalidRequest for labels that cannot be read after the template.
    """
    task = manifest.classification
    calibration, conformal = task.calibration, task.calibration.conformal
    return Classifier(
        engine,
        AdapterFrame(engine, manifest.prompt, task),
        tuple(task.labels),
        task.multi_label,
        adapter,
        Calibration(calibration.temperature, _log_prior(calibration.prior, task.multi_label)),
        None if conformal is None else ConformalSets.fitted(conformal.coverage, conformal.least),
        None if manifest.guard is None else manifest.guard.of_labels,
        manifest.reference,
    )


def _log_prior(prior: Sequence[float] | None, multi_label: bool) -> Array | None:
    if prior is None:
        return None
    yes = np.array(prior)
    if not multi_label:
        log_prior: Array = np.log(yes)
        return log_prior
    # With a prior of 1 the probability of "no" would be divided by zero.
    columns: Array = np.log(np.stack([yes, np.maximum(1 - yes, 1e-6)], axis=1))
    return columns
