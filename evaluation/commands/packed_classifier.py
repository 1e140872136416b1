"""Packed classifiers whose manifests get what texts show of them: thresholds, typical inputs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from evaluation.calibration.label_sets import TrueLine, sets_of, true_labels
from evaluation.calibration.texts import (
    ServedModel,
    TextLine,
    ask_probs,
    bound_of,
    harmless,
    reference_of,
    typical,
)
from evaluation.commands.head_rewrite import rewrite_manifest
from evaluation.lines import read_lines
from service.adapters.formats import GuardBound, InputReference
from service.adapters.heads import HeadManifest
from service.adapters.heads import load_manifest as load_head
from service.adapters.manifest import ClassificationManifest, Conformal
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import write_manifest
from service.common.client import Client
from service.common.error_messages import nearest, quote
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest


class PackedClassifier:
    """The folder of an adapter for classification or of a head, which a service serves.

    Raises ConfigurationError for another folder, AdapterRefused or HeadRefused for a manifest that
    cannot be read. Its methods raise ConfigurationError as the functions of `correctness.texts`.
    """

    def __init__(self, folder: Path, client: Client, served_as: str | None) -> None:
        self._folder = folder
        self._client = client
        manifest = load_head(folder) or load_manifest(folder)
        if isinstance(manifest, HeadManifest):
            digest, listed, labels = base_model_digest(folder), "/v1/models", manifest.labels
            multi_label = manifest.multi_label
        elif isinstance(manifest, ClassificationManifest):
            digest, listed = manifest.digest, "/v1/adapters"
            labels = tuple(manifest.classification.labels)
            multi_label = manifest.classification.multi_label
        else:
            raise ConfigurationError(f"{folder}: must be an adapter for classification or a head")
        self._manifest = manifest
        self._model = ServedModel(served_as or manifest.name, digest, listed, labels, multi_label)

    def find_threshold(
        self, lines: Path, flags: Sequence[str], alpha: float, confidence: float
    ) -> GuardBound:
        """Write the least threshold that at most a share `alpha` of harmless texts reaches."""
        for label in flags:
            if label not in self._model.labels:
                near = nearest(label, self._model.labels)
                raise ConfigurationError(
                    f"--label: {self._folder} has no label {quote(label)}{near}"
                )
        texts = harmless(read_lines(lines, TextLine), alpha, confidence)
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        bound = bound_of(probs, self._model, flags, alpha, confidence)
        self._write(guard=bound)
        return bound

    def count_typical(self, lines: Path) -> InputReference:
        """Write the histograms of typical texts."""
        texts = typical(read_lines(lines, TextLine))
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        reference = reference_of(probs, self._model, texts)
        self._write(reference=reference)
        return reference

    def fit_sets(self, lines: Path, coverage: float) -> Conformal:
        """Write the conformal thresholds of texts with their true labels.

        Labels that do not exclude each other have one each, and those with too few texts 1.
        """
        held_out = read_lines(lines, TrueLine)
        applies = true_labels(held_out, self._model)
        texts = [line.text for line in held_out]
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        conformal = sets_of(probs, applies, self._model, coverage)
        self._write(**self._calibrated(conformal))
        return conformal

    def _calibrated(self, conformal: Conformal) -> dict[str, BaseModel]:
        """The section of the manifest with these thresholds."""
        update = {"conformal": conformal}
        if isinstance(self._manifest, HeadManifest):
            return {"calibration": self._manifest.calibration.model_copy(update=update)}
        task = self._manifest.classification
        calibration = task.calibration.model_copy(update=update)
        return {"classification": task.model_copy(update={"calibration": calibration})}

    def _write(self, **section: BaseModel) -> None:
        changed = self._manifest.model_copy(update=section)
        if isinstance(changed, HeadManifest):
            rewrite_manifest(self._folder, changed)
        else:
            write_manifest(self._folder, changed)
