"""Quality figures of an adapter, computed from the engine's answers and the truth; no I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sacrebleu import corpus_bleu, corpus_chrf
from sklearn.metrics import f1_score

from service.adapters import manifest as adapter
from service.classification.calibration import Array, Calibration, fit_temperature
from service.classification.conformal import conformal_threshold, conformal_thresholds, label_sets
from service.classification.reliability import expected_calibration_error

Truth = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ConformalFigures:
    """Label sets at one coverage: how often they held the true label, size, empty sets."""

    coverage: float
    measured: float
    mean_size: float
    empty: float


@dataclass(frozen=True, slots=True)
class ClassificationFigures:
    """Held-out figures, in 0..1 except counts; `confusions` are (true, said, count), worst first.

    `tested_labels` is the number of labels that test lines have. With multi_label, `accuracy` is
    the share of lines for which every label is answered correctly, and `conformal.measured` is the
    share of applicable labels that are in their line's set.
    """

    lines: int
    tested_labels: int
    accuracy: float
    macro_f1: float
    ece_before: float
    ece: float
    conformal: tuple[ConformalFigures, ...]
    confusions: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class GenerationFigures:
    """Held-out figures: exact match and valid JSON in 0..1, chrF and BLEU in 0..100.

    `valid_json` is None if the answers need not be JSON.
    """

    lines: int
    exact_match: float
    valid_json: float | None
    chrf: float
    bleu: float


def fit_calibration(log_probs: Array, truth: Truth) -> adapter.CalibrationRecord:
    """The manifest's calibration with a temperature alone.

    `log_probs` are (lines, labels), `truth` is the index of each line's label, (lines,).
    """
    return adapter.CalibrationRecord(temperature=fit_temperature(log_probs, truth))


def fit_conformal(
    tempered: adapter.CalibrationRecord, log_probs: Array, truth: Truth, coverage: float
) -> adapter.CalibrationRecord:
    """The calibration with a conformal threshold, from lines not used for its temperature.

    Shapes as for `fit_calibration`.
    """
    probs = np.exp(Calibration(tempered.temperature).apply(log_probs))
    least = conformal_threshold(_of(probs, truth), coverage)
    return tempered.model_copy(update={"conformal": adapter.Conformal.from_least(coverage, least)})


def fit_conformal_by_label(
    tempered: adapter.CalibrationRecord, log_probs: Array, truth: Truth, coverage: float
) -> adapter.CalibrationRecord:
    """The calibration with a conformal threshold for each label, as `fit_conformal`.

    `log_probs` are (lines, labels, yes and no), `truth` is (lines, labels), 0 for yes.
    """
    probs = _yes(tempered, log_probs)
    least = conformal_thresholds(probs, truth == 0, coverage)
    return tempered.model_copy(update={"conformal": adapter.Conformal.from_least(coverage, least)})


def classification_figures(
    names: Sequence[str],
    log_probs: Array,
    truth: Truth,
    calibrations: Sequence[adapter.CalibrationRecord],
) -> ClassificationFigures:
    """Figures of single-label test lines; each calibration gives its conformal figures.

    The first calibration also gives the calibrated confidence. `log_probs` are (lines, labels),
    `truth` is (lines,).
    """
    said = log_probs.argmax(axis=1)
    right = said == truth
    calibrated = Calibration(calibrations[0].temperature).apply(log_probs)
    probs = np.exp(calibrated)
    wrong = Counter((names[t], names[s]) for t, s in zip(truth, said, strict=True) if t != s)
    return ClassificationFigures(
        lines=len(truth),
        tested_labels=len(set(truth.tolist())),
        accuracy=float(right.mean()),
        macro_f1=float(f1_score(truth, said, average="macro", zero_division=0)),
        ece_before=_ece(np.exp(log_probs), right),
        ece=_ece(probs, right),
        conformal=tuple(_conformal(probs, truth, each) for each in calibrations),
        confusions=tuple((t, s, count) for (t, s), count in wrong.most_common()),
    )


def multi_label_figures(
    names: Sequence[str], log_probs: Array, truth: Truth, calibration: adapter.CalibrationRecord
) -> ClassificationFigures:
    """Figures of multi-label test lines.

    `log_probs` are (lines, labels, yes and no), `truth` is (lines, labels), 0 for yes and 1 for no.
    """
    rows, flat = log_probs.reshape(-1, 2), truth.reshape(-1)
    said = log_probs.argmax(axis=2)
    right = rows.argmax(axis=1) == flat
    probs = np.exp(Calibration(calibration.temperature).apply(rows))
    wrong = Counter(
        (names[column], "no" if truth[line, column] == 0 else "yes")
        for line, column in zip(*np.nonzero(said != truth), strict=True)
    )
    return ClassificationFigures(
        lines=len(truth),
        tested_labels=int((truth == 0).any(axis=0).sum()),
        accuracy=float((said == truth).all(axis=1).mean()),
        macro_f1=float(f1_score(truth == 0, said == 0, average="macro", zero_division=0)),
        ece_before=_ece(np.exp(rows), right),
        ece=_ece(probs, right),
        conformal=_conformal_by_label(_yes(calibration, log_probs), truth == 0, calibration),
        confusions=tuple((name, answer, count) for (name, answer), count in wrong.most_common()),
    )


def generation_figures(
    expected: Sequence[str],
    answers: Sequence[str],
    exact: Sequence[bool],
    valid: Sequence[bool] | None,
) -> GenerationFigures:
    """Figures of generated answers; chrF2 (Popovic 2015) and BLEU are as sacrebleu computes them.

    `exact` tells which answers match, `valid` which are JSON, None if they need not be.
    """
    return GenerationFigures(
        lines=len(expected),
        exact_match=sum(exact) / len(exact),
        valid_json=None if valid is None else sum(valid) / len(valid),
        chrf=corpus_chrf(answers, [expected]).score,
        bleu=corpus_bleu(answers, [expected]).score,
    )


def _conformal(
    probs: Array, truth: Truth, calibration: adapter.CalibrationRecord
) -> ConformalFigures:
    assert calibration.conformal is not None
    sets = label_sets(probs, calibration.conformal.least)
    return _set_figures(calibration.conformal, sets, _of(sets, truth))


def _conformal_by_label(
    probs: Array, applies: npt.NDArray[np.bool_], calibration: adapter.CalibrationRecord
) -> tuple[ConformalFigures, ...]:
    if calibration.conformal is None or not applies.any():
        return ()
    sets = label_sets(probs, calibration.conformal.least)
    return (_set_figures(calibration.conformal, sets, sets[applies]),)


def _set_figures(
    conformal: adapter.Conformal, sets: npt.NDArray[np.bool_], held: npt.NDArray[np.generic]
) -> ConformalFigures:
    """Figures of label sets, (lines, labels); `held` is true where a set has the true label."""
    sizes = sets.sum(axis=1)
    return ConformalFigures(
        coverage=conformal.coverage,
        measured=float(held.mean()),
        mean_size=float(sizes.mean()),
        empty=float((sizes == 0).mean()),
    )


def _yes(calibration: adapter.CalibrationRecord, log_probs: Array) -> Array:
    """Calibrated probabilities that each label applies, (lines, labels)."""
    rows = Calibration(calibration.temperature).apply(log_probs.reshape(-1, 2))
    yes: Array = np.minimum(np.exp(rows[:, 0]), 1.0).reshape(log_probs.shape[:2])
    return yes


def _ece(probs: Array, right: npt.NDArray[np.bool_]) -> float:
    return expected_calibration_error(np.minimum(probs.max(axis=1), 1.0), right)


def _of(values: npt.NDArray[np.generic], truth: Truth) -> Array:
    """The value of each line's true label, at most 1: (lines, labels) to (lines,)."""
    chosen: Array = np.take_along_axis(values, truth[:, None], axis=1)[:, 0].astype(np.float64)
    return np.minimum(chosen, 1.0)
