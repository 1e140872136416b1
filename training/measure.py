"""Measurement of an adapter and its base, or of a head, on held-out lines through the engine."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from service.adapters.formats import read_calls
from service.adapters.golden import GenerationExample
from service.adapters.golden_score import matches
from service.adapters.manifest import CalibrationRecord, GenerationGolden, LabelSet
from service.classification.calibration import Array, Calibration
from service.classification.reliability import ReliabilityBar, reliability_bins, risk_coverage
from service.engine.contract import Adapter
from training.config import FinetuneSettings
from training.figures import (
    ClassificationFigures,
    GenerationFigures,
    Truth,
    classification_figures,
    fit_calibration,
    fit_conformal,
    fit_conformal_by_label,
    generation_figures,
    multi_label_figures,
)
from training.golden import Candidate, generation_golden
from training.lines import CompletedLine, LabelledLine, Line, MultiLabelledLine
from training.offline import GreedyAnswer, OfflineHead, OfflineModel
from training.prepare import Prepared

_SHOWN_COVERAGE = 0.9
"""Coverage that every card reports, whatever the adapter's own is."""
Score = Callable[[Sequence[str]], Awaitable[Array]]
"""Log P of every answer to texts, as `OfflineModel.label_scores`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measurements; only a classification has `calibration` and the diagrams' data.

    `base` is None for a head, because an encoder has no answers without its head.
    """

    figures: ClassificationFigures | GenerationFigures
    base: ClassificationFigures | GenerationFigures | None
    candidates: Sequence[Candidate]
    calibration: CalibrationRecord | None = None
    reliability: Sequence[ReliabilityBar] = ()
    risk: tuple[Array, Array] | None = None
    confusion: Array | None = None


async def evaluate(
    model: OfflineModel,
    adapter: Adapter,
    settings: FinetuneSettings,
    prepared: Prepared,
    packed: CalibrationRecord | None = None,
) -> Evaluation:
    """Measure a loaded adapter on the test lines, under the calibration that it was packed with.

    Without `packed` a calibration is fitted, see `evaluate_labels`.
    """
    if prepared.task is None or settings.prompt is None:
        return await _generation(model, adapter, settings, prepared)
    score, score_base = (
        partial(model.label_scores, settings.prompt, prepared.task, whose)
        for whose in (adapter, None)
    )
    return await evaluate_labels(score, score_base, settings, prepared, packed)


async def evaluate_head(
    head: OfflineHead,
    settings: FinetuneSettings,
    prepared: Prepared,
    packed: CalibrationRecord | None = None,
) -> Evaluation:
    """Measure a running encoder's head like `evaluate`; it has no base to compare with."""
    return await evaluate_labels(head.scores, None, settings, prepared, packed)


async def evaluate_labels(
    score: Score,
    score_base: Score | None,
    settings: FinetuneSettings,
    prepared: Prepared,
    packed: CalibrationRecord | None,
) -> Evaluation:
    """Measure a classifier on the test lines, under the calibration that it was packed with.

    Without `packed` a calibration is fitted: the temperature on the validation lines, conformal
    thresholds on the calibration lines. A threshold's coverage is guaranteed only if nothing else
    was fitted on the same lines.
    """
    assert prepared.task is not None
    split, limit = prepared.split, settings.evaluation.lines

    async def asked(lines: Sequence[Line], whose: Score) -> Answers:
        log_probs = await whose([_text(line) for line in lines])
        return Answers(log_probs, true_answers(prepared.task, lines))

    async def asked_base(lines: Sequence[Line]) -> Answers | None:
        return None if score_base is None else await asked(lines, score_base)

    tempered = packed
    if tempered is None:
        validation = await asked(split.validation[:limit], score)
        tempered = fit_calibration(validation.rows, validation.truth.reshape(-1))
    held = await asked(split.calibration[:limit], score)
    calibrations = _calibrations(
        tempered, held, settings.evaluation.coverage, multi_label=prepared.task.multi_label
    )
    tested, base = await asked(split.test[:limit], score), await asked_base(split.test[:limit])
    golden, base_golden = tested, base
    if prepared.golden is not split.test:
        golden, base_golden = await asked(prepared.golden, score), await asked_base(prepared.golden)
    return _classification(
        prepared.task,
        calibrations,
        tested,
        base,
        _label_candidates(prepared.golden[: len(golden.truth)], golden, base_golden),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """Log-probabilities of lines, (lines, questions, answers), and true answers.

    `truth` is the index of the true answer of each question, (lines, questions). There is one
    question unless several labels may apply.
    """

    log_probs: Array
    truth: Truth

    @property
    def rows(self) -> Array:
        """One row for each question of each line."""
        return self.log_probs.reshape(-1, self.log_probs.shape[2])

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """True for each question that got the true answer: (lines, questions)."""
        found: npt.NDArray[np.bool_] = self.log_probs.argmax(axis=2) == self.truth
        return found


def true_answers(task: LabelSet | None, lines: Sequence[Line]) -> Truth:
    """The index of every true answer: of the label, or under multi_label 0 for yes, 1 for no."""
    assert task is not None
    names = tuple(task.labels)
    if task.multi_label:
        rows = [[0 if name in line.labelled else 1 for name in names] for line in lines]
    else:
        rows = [[names.index(line.labelled[0])] for line in lines]
    return np.array(rows)


def _calibrations(
    tempered: CalibrationRecord,
    held: Answers,
    coverage: float,
    *,
    multi_label: bool,
) -> list[CalibrationRecord]:
    """The calibration to serve, and the one at the coverage that every single-label card shows."""
    if multi_label:
        if tempered.conformal:
            return [tempered]
        return [fit_conformal_by_label(tempered, held.log_probs, held.truth, coverage)]
    of = held.rows, held.truth.reshape(-1)
    served = tempered if tempered.conformal else fit_conformal(tempered, *of, coverage)
    assert served.conformal is not None
    if served.conformal.coverage == _SHOWN_COVERAGE:
        return [served]
    return [served, fit_conformal(tempered, *of, _SHOWN_COVERAGE)]


def _classification(
    task: LabelSet,
    calibrations: Sequence[CalibrationRecord],
    tested: Answers,
    base: Answers | None,
    candidates: Sequence[Candidate],
) -> Evaluation:
    names = tuple(task.labels)

    def figures(of: Answers) -> ClassificationFigures:
        if task.multi_label:
            return multi_label_figures(names, of.log_probs, of.truth, calibrations[0])
        return classification_figures(names, of.log_probs[:, 0], of.truth[:, 0], calibrations)

    softened = Calibration(calibrations[0].temperature).apply(tested.log_probs)
    confidences = np.minimum(np.exp(softened).max(axis=2), 1.0).reshape(-1)
    right = tested.right.reshape(-1)
    confusion = None
    if not task.multi_label:
        confusion = np.zeros((len(names), len(names)))
        np.add.at(confusion, (tested.truth[:, 0], tested.log_probs[:, 0].argmax(axis=1)), 1)
    return Evaluation(
        figures(tested),
        None if base is None else figures(base),
        candidates,
        calibrations[0],
        reliability_bins(confidences, right),
        risk_coverage(confidences, right),
        confusion,
    )


def _label_candidates(
    lines: Sequence[Line], answers: Answers, base: Answers | None
) -> list[Candidate]:
    confidences = np.exp(answers.log_probs).max(axis=2).min(axis=1)
    return [
        Candidate(
            {"input": _text(line)} | _truth(line),
            "+".join(line.labelled),
            bool(answers.right[row].all()),
            base is not None and bool(base.right[row].all()),
            float(confidences[row]),
        )
        for row, line in enumerate(lines)
    ]


def _truth(line: Line) -> dict[str, object]:
    match line:
        case LabelledLine():
            return {"label": line.label}
        case _:
            return {"labels": list(line.labelled)}


async def _generation(
    model: OfflineModel, adapter: Adapter, settings: FinetuneSettings, prepared: Prepared
) -> Evaluation:
    limit = settings.evaluation.lines
    test, golden_lines = _completed(prepared.split.test[:limit]), _completed(prepared.golden)
    golden = generation_golden(settings)

    async def asked(
        lines: Sequence[CompletedLine],
    ) -> tuple[list[GreedyAnswer], list[GreedyAnswer]]:
        longest = golden.max_tokens
        answers = await model.answers(lines, longest, adapter)
        return answers, await model.answers(lines, longest, None)

    answers, base_answers = await asked(test)
    has_form = golden.match in ("json", "tool_calls")
    # `token` measures how near an answer is; `exact_match` counts the answers that are the same.
    near = golden.match == "token"
    exactly = golden.model_copy(update={"match": "exact"}) if near else golden
    examples = [_example(line, golden.match) for line in test]
    expected = [line.completion for line in test]

    def figures(of: Sequence[GreedyAnswer]) -> GenerationFigures:
        texts = [each.text for each in of]
        asked = list(zip(examples, texts, strict=True))
        exact = [matches(e, a, exactly) for e, a in asked]
        valid = [is_well_formed(e, a, golden.match) for e, a in asked] if has_form else None
        return generation_figures(expected, texts, exact, valid)

    measured = Evaluation(figures(answers), figures(base_answers), ())
    if prepared.golden is not prepared.split.test:
        answers, base_answers = await asked(golden_lines)
    rows = zip(golden_lines, answers, base_answers, strict=False)
    return replace(
        measured,
        candidates=[
            _generation_candidate(_example(line, golden.match), answer, base_answer, golden)
            for line, answer, base_answer in rows
        ],
    )


def is_well_formed(example: GenerationExample, answer: str, match: str) -> bool:
    """True if an answer has the form that the example's expected answer has.

    Under the match `json` it must be JSON. Under `tool_calls` the arguments of its calls must be
    JSON, and it must hold a call if one is expected.
    """
    try:
        if match == "json":
            json.loads(answer)
            return True
        wanted, found = read_calls(str(example.expect))[1], read_calls(answer)[1]
    except (ValueError, RecursionError):
        return False
    return bool(found) >= bool(wanted)


def _completed(lines: Sequence[Line]) -> list[CompletedLine]:
    return [line for line in lines if isinstance(line, CompletedLine)]


def _generation_candidate(
    example: GenerationExample,
    answer: GreedyAnswer,
    base_answer: GreedyAnswer,
    golden: GenerationGolden,
) -> Candidate:
    return Candidate(
        example.model_dump(exclude_unset=True, mode="json"),
        "",
        matches(example, answer.text, golden),
        matches(example, base_answer.text, golden),
        answer.least_probability,
    )


def _example(line: CompletedLine, match: str) -> GenerationExample:
    expect = json.loads(line.completion) if match == "json" else line.completion
    if line.messages is None:
        return GenerationExample(prompt=line.prompt, expect=expect)
    return GenerationExample(messages=line.messages, expect=expect)


def _text(line: Line) -> str:
    assert isinstance(line, LabelledLine | MultiLabelledLine)
    return line.text
