"""An adapter measured on held-out lines, on the served engine, beside its base."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.adapters import manifest as adapter_manifest
from service.adapters.golden import GenerationExample
from service.adapters.golden_score import matches
from service.classification.adapter_frame import AdapterFrame
from service.classification.calibration import Calibration
from service.classification.distribution import Array
from service.classification.reliability import ReliabilityBin, reliability_bins
from service.engine.protocol import Adapter, Engine
from service.errors import ConfigurationError
from service.finetune.config import FinetuneSettings
from service.finetune.figures import (
    ClassificationFigures,
    GenerationFigures,
    Truth,
    calibrate,
    classification_figures,
    generation_figures,
    multi_label_figures,
)
from service.finetune.golden_choice import Candidate
from service.finetune.lines import CompletedLine, LabelledLine, Line, MultiLabelledLine
from service.finetune.served import label_scores, written_answers
from service.finetune.split import Split

GOLDEN_FILE = "golden.jsonl"
_SHOWN_COVERAGE = 0.9
"""A coverage that every card tells, whatever the adapter serves with."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured; `calibration` and the diagrams' data are there for a classification."""

    figures: ClassificationFigures | GenerationFigures
    base: ClassificationFigures | GenerationFigures
    candidates: Sequence[Candidate]
    calibration: adapter_manifest.Calibration | None = None
    reliability: Sequence[ReliabilityBin] = ()
    confusion: Array | None = None


async def evaluate(
    engine: Engine,
    adapter: Adapter,
    settings: FinetuneSettings,
    split: Split,
    task: adapter_manifest.Classification | None,
) -> Evaluation:
    """Measure a loaded adapter on the test lines, calibrated on the calibration lines."""
    limit = settings.evaluation.lines
    if task is None or settings.prompt is None:
        return await _generation(engine, adapter, settings, split.test[:limit])
    frame = AdapterFrame(engine, settings.prompt, task)
    names = tuple(task.labels)
    held, test = split.calibration[:limit], split.test[:limit]
    if len(held) < 2:
        raise ConfigurationError(f"split: {len(held)} calibration lines; at least 2 are needed")
    scores = await label_scores(engine, frame, [*map(_text, held), *map(_text, test)], adapter)
    base_scores = await label_scores(engine, frame, list(map(_text, test)), None)
    if task.multi_label:
        return _multi_label(names, scores, base_scores, held, test)
    return _single_label(settings, names, scores[:, 0], base_scores[:, 0], held, test)


def _single_label(
    settings: FinetuneSettings,
    names: tuple[str, ...],
    scores: Array,
    base_scores: Array,
    held: Sequence[Line],
    test: Sequence[Line],
) -> Evaluation:
    truth = np.array([names.index(line.labelled[0]) for line in (*held, *test)])
    rows, held_truth = scores[: len(held)], truth[: len(held)]
    tested, test_truth = scores[len(held) :], truth[len(held) :]
    wanted = dict.fromkeys((settings.evaluation.coverage, _SHOWN_COVERAGE))
    calibrations = [calibrate(rows, held_truth, coverage) for coverage in wanted]
    probs = np.exp(Calibration(calibrations[0].temperature).apply(tested))
    confidences, right = np.minimum(probs.max(axis=1), 1.0), tested.argmax(axis=1) == test_truth
    return Evaluation(
        classification_figures(names, tested, test_truth, calibrations),
        classification_figures(names, base_scores, test_truth, calibrations),
        [
            Candidate(
                {"input": _text(line), "label": line.labelled[0]},
                line.labelled[0],
                bool(right[row]),
                bool(base_scores[row].argmax() == test_truth[row]),
                float(confidences[row]),
            )
            for row, line in enumerate(test)
        ],
        calibrations[0],
        reliability_bins(confidences, right),
        _confusion(len(names), test_truth, tested.argmax(axis=1)),
    )


def _multi_label(
    names: tuple[str, ...],
    scores: Array,
    base_scores: Array,
    held: Sequence[Line],
    test: Sequence[Line],
) -> Evaluation:
    truth = np.array(
        [[0 if name in line.labelled else 1 for name in names] for line in (*held, *test)]
    )
    rows, flat = scores[: len(held)].reshape(-1, 2), truth[: len(held)].reshape(-1)
    calibration = calibrate(rows, flat, None)
    tested, test_truth = scores[len(held) :], truth[len(held) :]
    said, base_said = tested.argmax(axis=2), base_scores.argmax(axis=2)
    probs = np.exp(Calibration(calibration.temperature).apply(tested))
    confidences = np.minimum(probs.max(axis=2), 1.0)
    return Evaluation(
        multi_label_figures(names, tested, test_truth, calibration),
        multi_label_figures(names, base_scores, test_truth, calibration),
        [
            Candidate(
                {"input": _text(line), "labels": sorted(line.labelled)},
                "+".join(sorted(line.labelled)),
                bool((said[row] == test_truth[row]).all()),
                bool((base_said[row] == test_truth[row]).all()),
                float(confidences[row].min()),
            )
            for row, line in enumerate(test)
        ],
        calibration,
        reliability_bins(confidences.reshape(-1), (said == test_truth).reshape(-1)),
    )


async def _generation(
    engine: Engine, adapter: Adapter, settings: FinetuneSettings, test: Sequence[Line]
) -> Evaluation:
    lines = [line for line in test if isinstance(line, CompletedLine)]
    golden = generation_golden(settings)
    examples = [_example(line, golden.match) for line in lines]
    answers = await written_answers(engine, lines, golden.max_tokens, adapter)
    base_answers = await written_answers(engine, lines, golden.max_tokens, None)
    expected = [line.completion for line in lines]
    return Evaluation(
        generation_figures(expected, answers),
        generation_figures(expected, base_answers),
        [
            Candidate(
                example.model_dump(exclude_unset=True, mode="json"),
                "",
                matches(example, answer, golden),
                matches(example, base_answer, golden),
            )
            for example, answer, base_answer in zip(examples, answers, base_answers, strict=True)
        ],
    )


def generation_golden(settings: FinetuneSettings) -> adapter_manifest.GenerationGolden:
    """How the golden answers of a generation adapter are compared."""
    evaluation = settings.evaluation
    return adapter_manifest.GenerationGolden(
        file=GOLDEN_FILE,
        match=evaluation.match,
        min_accuracy=evaluation.golden_accuracy,
        max_tokens=evaluation.max_tokens,
    )


def _example(line: CompletedLine, match: str) -> GenerationExample:
    try:
        expect = json.loads(line.completion) if match == "json" else line.completion
    except ValueError as error:
        raise ConfigurationError(
            f"evaluation.match: json, and an answer is none: {line.completion!r:.80}"
        ) from error
    if line.messages is None:
        return GenerationExample(prompt=line.prompt, expect=expect)
    return GenerationExample(messages=line.messages, expect=expect)


def _confusion(size: int, truth: Truth, said: Truth) -> Array:
    counts = np.zeros((size, size))
    np.add.at(counts, (truth, said), 1)
    return counts


def _text(line: Line) -> str:
    assert isinstance(line, LabelledLine | MultiLabelledLine)
    return line.text
