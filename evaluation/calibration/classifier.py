"""Fits for packed classifiers, from texts that a service classifies."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from evaluation.client import Client
from evaluation.lines import Line, read_lines
from evaluation.packed import check_version, rewrite_manifest
from service.adapters.formats import GuardBound, InputReference
from service.adapters.heads import HeadManifest
from service.adapters.heads import load_manifest as load_head
from service.adapters.manifest import ClassificationManifest, Conformal
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.classification.calibration import Array
from service.classification.conformal import (
    bounded_threshold,
    conformal_threshold,
    conformal_thresholds,
    examples_needed,
    lines_needed,
)
from service.common.aio import gather
from service.common.error_messages import nearest, quote
from service.engine.pooling import InputCounts
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest

LEAST_TYPICAL = 200
"""Fewest texts from which histograms of typical inputs are made."""


class TextLine(Line):
    """A text; a `label`, as in training lines, is allowed and ignored."""

    text: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A classification model as its folder describes it.

    `listed` is the path at which the service lists the model with its digest.
    """

    name: str
    digest: str
    listed: str
    labels: Sequence[str]
    multi_label: bool


async def ask_probs(client: Client, model: ServedModel, texts: Sequence[str]) -> Array:
    """The probability of each label for each text, a row per text; closes the client.

    Raises ConfigurationError for a service that cannot be reached, serves other weights under the
    model's name, or refuses a text.
    """

    async def ask(text: str) -> list[float]:
        asked = {"model": model.name, "input": text}
        (found,) = (await client.ask("/v1/classify", asked))["data"]
        return [float(probability) for probability in found["probs"]]

    async with client:
        await check_version(client, model.name, model.digest, model.listed)
        return np.array(await gather(ask(text) for text in texts))


def harmless_texts(lines: Sequence[TextLine], alpha: float, confidence: float) -> list[str]:
    """The lines' distinct texts; ConfigurationError for fewer than the bound needs."""
    texts = list(dict.fromkeys(line.text for line in lines))
    if len(texts) < (needed := lines_needed(alpha, confidence)):
        raise ConfigurationError(
            f"lines: at least {needed} different harmless texts are needed to show with confidence "
            f"{confidence:g} that at most a share {alpha:g} is flagged, got {len(texts)}"
        )
    return texts


def fit_bound(
    probs: Array, model: ServedModel, flags: Sequence[str], alpha: float, confidence: float
) -> GuardBound:
    """The threshold of a guard with these labels, from the probabilities of harmless texts.

    Raises ConfigurationError if the model is certain of these labels for too many of the texts.
    """
    places = [list(model.labels).index(label) for label in flags]
    scores: Array = probs[:, places].max(axis=1)
    threshold = bounded_threshold(scores, alpha, confidence)
    if threshold > 1:
        raise ConfigurationError(
            "lines: the model is wholly sure of its label for more harmless texts than may be "
            f"flagged ({int((scores >= 1).sum())} of {len(scores)}): no threshold spares them"
        )
    return GuardBound(
        labels=tuple(flags),
        threshold=threshold,
        alpha=alpha,
        confidence=confidence,
        lines=len(scores),
    )


def typical_texts(lines: Sequence[TextLine]) -> list[str]:
    """The lines' texts, with repetitions, as in real traffic."""
    if len(lines) < LEAST_TYPICAL:
        raise ConfigurationError(
            f"lines: at least {LEAST_TYPICAL} texts of typical traffic are needed, got {len(lines)}"
        )
    return [line.text for line in lines]


def count_inputs(probs: Array, model: ServedModel, texts: Sequence[str]) -> InputReference:
    """The histograms of typical texts."""
    counts = InputCounts(model.labels)
    for row, text in zip(probs, texts, strict=True):
        counts.add(model.labels[int(row.argmax())], float(row.max()), len(text))
    return InputReference(
        labels=counts.labels, scores=tuple(counts.scores), lengths=tuple(counts.lengths)
    )


class TrueLine(Line):
    """A text and its label, or the labels that apply to it, possibly none."""

    text: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]
    label: str | None = None
    labels: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _says_one(self) -> "TrueLine":
        if (self.label is None) == (self.labels is None):
            raise ValueError("needs one of label and labels")
        return self


def true_labels(lines: Sequence[TrueLine], model: ServedModel) -> npt.NDArray[np.bool_]:
    """A matrix (lines, labels), true for each label that applies.

    Raises ConfigurationError for lines that have `label` in place of `labels` or the reverse, and
    for labels that the model does not have.
    """
    wanted, other = ("labels", "label") if model.multi_label else ("label", "labels")
    applies = np.zeros((len(lines), len(model.labels)), dtype=np.bool_)
    for row, line in enumerate(lines):
        if getattr(line, wanted) is None:
            raise ConfigurationError(
                f"lines: {model.name} needs `{wanted}` in each line, got `{other}` with "
                f"{quote(line.text)}"
            )
        for label in line.labels if line.labels is not None else [str(line.label)]:
            if label not in model.labels:
                near = nearest(label, model.labels)
                raise ConfigurationError(f"lines: {model.name} has no label {quote(label)}{near}")
            applies[row, list(model.labels).index(label)] = True
    return applies


def fit_conformal(
    probs: Array, applies: npt.NDArray[np.bool_], model: ServedModel, coverage: float
) -> Conformal:
    """The threshold of a model's labels, or one for each; ConfigurationError for too few lines.

    If each label has a threshold, one with too few lines is in every set.
    """
    needed = examples_needed(coverage)
    most = int(applies.sum(axis=0).max()) if model.multi_label else len(probs)
    if most < needed:
        of = " of a label" if model.multi_label else ""
        raise ConfigurationError(
            f"lines: at least {needed}{of} are needed for a coverage of {coverage:g}, got {most}"
        )
    probs = np.minimum(probs, 1.0)
    if model.multi_label:
        return Conformal.from_least(coverage, conformal_thresholds(probs, applies, coverage))
    return Conformal.from_least(coverage, conformal_threshold(probs[applies], coverage))


class PackedClassifier:
    """The packed folder of an adapter for classification, or of a head, that a service serves.

    Raises ConfigurationError for any other folder, AdapterRefused or HeadRefused for a manifest
    that cannot be read. Its methods raise ConfigurationError as the module's functions do.
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
        """Find and write the lowest threshold that at most `alpha` of harmless texts reach."""
        for label in flags:
            if label not in self._model.labels:
                near = nearest(label, self._model.labels)
                raise ConfigurationError(
                    f"--label: {self._folder} has no label {quote(label)}{near}"
                )
        texts = harmless_texts(read_lines(lines, TextLine), alpha, confidence)
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        bound = fit_bound(probs, self._model, flags, alpha, confidence)
        self._write(guard=bound)
        return bound

    def count_typical(self, lines: Path) -> InputReference:
        """Count histograms of typical texts, and write them."""
        texts = typical_texts(read_lines(lines, TextLine))
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        reference = count_inputs(probs, self._model, texts)
        self._write(reference=reference)
        return reference

    def fit_sets(self, lines: Path, coverage: float) -> Conformal:
        """Fit conformal thresholds by texts with their true labels, and write them.

        If several labels may apply to a text, each label has a threshold; with too few texts it is
        1, so every set contains the label.
        """
        held_out = read_lines(lines, TrueLine)
        applies = true_labels(held_out, self._model)
        texts = [line.text for line in held_out]
        probs = asyncio.run(ask_probs(self._client, self._model, texts))
        conformal = fit_conformal(probs, applies, self._model, coverage)
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
