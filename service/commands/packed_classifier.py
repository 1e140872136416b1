"""Packed classifiers whose manifests get what texts show of them: a threshold, typical inputs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from service.adapters.guard_bound import GuardBound
from service.adapters.input_reference import InputReference
from service.adapters.manifest import ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import write_manifest
from service.correctness.texts import (
    ServedModel,
    TextLine,
    ask_probs,
    bound_of,
    harmless,
    reference_of,
    typical,
)
from service.errors import ConfigurationError
from service.evaluation.client import Client
from service.evaluation.lines import read_lines
from service.heads.manifest import HeadManifest
from service.heads.manifest import load_manifest as load_head
from service.heads.rewrite import rewrite_manifest
from service.model.digest import base_model_digest
from service.quoting import nearest, quote


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
        elif isinstance(manifest, ClassificationManifest):
            digest, listed = manifest.digest, "/v1/adapters"
            labels = tuple(manifest.classification.labels)
        else:
            raise ConfigurationError(f"{folder}: must be an adapter for classification or a head")
        self._manifest = manifest
        self._model = ServedModel(served_as or manifest.name, digest, listed, labels)

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

    def _write(self, **section: GuardBound | InputReference) -> None:
        changed = self._manifest.model_copy(update=section)
        if isinstance(changed, HeadManifest):
            rewrite_manifest(self._folder, changed)
        else:
            write_manifest(self._folder, changed)
