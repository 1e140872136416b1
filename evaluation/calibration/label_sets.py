"""Conformal thresholds from texts with their true labels, which a running service classifies."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from evaluation.calibration.texts import ServedModel
from evaluation.lines import Line
from service.adapters.manifest import Conformal
from service.classification.calibration import Array
from service.classification.conformal import (
    conformal_threshold,
    conformal_thresholds,
    examples_needed,
)
from service.common.error_messages import nearest, quote
from service.errors import ConfigurationError


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
    """True for each label that applies, (lines, labels).

    Raises ConfigurationError for lines of another kind of model, labels that it does not have, and
    fewer lines than its promise needs.
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


def sets_of(
    probs: Array, applies: npt.NDArray[np.bool_], model: ServedModel, coverage: float
) -> Conformal:
    """The threshold of a model's labels, or one for each; ConfigurationError for too few lines.

    With a threshold for each, a label with too few lines is in every set.
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
        return Conformal.keeping(coverage, conformal_thresholds(probs, applies, coverage))
    return Conformal.keeping(coverage, conformal_threshold(probs[applies], coverage))
