"""Threshold of a guard, found on harmless lines and written into its model's manifest."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from service.adapters.guard_bound import GuardBound
from service.adapters.manifest import ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import write_manifest
from service.correctness.asking import RunningService
from service.correctness.harmless import (
    GuardModel,
    HarmlessLine,
    ask_scores,
    bound_of,
    distinct,
)
from service.errors import ConfigurationError
from service.evaluation.lines import read_lines
from service.heads.manifest import HeadManifest
from service.heads.manifest import load_manifest as load_head
from service.heads.rewrite import rewrite_manifest
from service.model.digest import base_model_digest
from service.quoting import nearest, quote


def guard_threshold(
    folder: Path,
    lines: Path,
    service: RunningService,
    flags: Sequence[str],
    alpha: float,
    confidence: float,
    served_as: str | None,
) -> GuardBound:
    """Find the least threshold that at most a share `alpha` of harmless texts reaches.

    Raises ConfigurationError for a folder without these labels, too few lines, and what
    `ask_scores` raises; AdapterRefused or HeadRefused for a manifest that cannot be read.
    """
    manifest = load_head(folder) or load_manifest(folder)
    model = _model(manifest, folder, served_as)
    for label in flags:
        if label not in model.labels:
            near = nearest(label, model.labels)
            raise ConfigurationError(f"--flag: {folder} has no label {quote(label)}{near}")
    texts = distinct(read_lines(lines, HarmlessLine), alpha, confidence)
    scores = asyncio.run(ask_scores(service, model, flags, texts))
    bound = bound_of(scores, flags, alpha, confidence)
    if isinstance(manifest, HeadManifest):
        rewrite_manifest(folder, manifest.model_copy(update={"guard": bound}))
    else:
        write_manifest(folder, manifest.model_copy(update={"guard": bound}))
    return bound


def _model(manifest: object, folder: Path, served_as: str | None) -> GuardModel:
    if isinstance(manifest, HeadManifest):
        digest, labels = base_model_digest(folder), manifest.labels
        return GuardModel(served_as or manifest.name, digest, "/v1/models", labels)
    if not isinstance(manifest, ClassificationManifest):
        raise ConfigurationError(f"{folder}: must be an adapter for classification or a head")
    labels = tuple(manifest.classification.labels)
    return GuardModel(served_as or manifest.name, manifest.digest, "/v1/adapters", labels)
