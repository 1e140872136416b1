"""Golden examples of what was trained, chosen from held-out lines."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import GenerationGolden
from training.config import FinetuneSettings

GOLDEN_FILE = "golden.jsonl"
_SURE = 0.75
"""Probability above which an answer leads by over one nat, so rounding cannot reverse it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A held-out line as a golden example, and how the adapter and the base answered it.

    `confidence` is the adapter's probability of its label, or of the least certain token of its
    answer.
    """

    line: dict[str, Any]
    label: str
    right: bool
    base_right: bool
    confidence: float


def choose_golden(candidates: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most `count` examples, as evenly over the labels as the lines allow.

    Only lines that the adapter answered correctly are chosen, because the examples must pass on
    every machine with the right weights. Lines that the base got wrong come first. Labels with too
    few of these also get lines that the base got right, so that an adapter with a constant answer
    fails the proof; but the base may be right about at most half of the examples. If the base is
    right about all lines, the result is empty.
    """
    by_label: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.right:
            by_label[candidate.label].append(candidate)
    order = random.Random(seed)
    queues = []
    for label in sorted(by_label):
        telling = [each for each in by_label[label] if not each.base_right]
        others = [each for each in by_label[label] if each.base_right]
        queues.append([*_sure(telling, order), *_sure(others, order)])
    order.shuffle(queues)
    rounds = [each for row in zip_longest(*queues) for each in row if each is not None]
    chosen = rounds[:count]
    spare = 2 * sum(not each.base_right for each in chosen) - len(chosen)
    surplus = [each for each in chosen if each.base_right][spare:] if spare < 0 else []
    return [each for each in chosen if each not in surplus]


def _sure(candidates: Sequence[Candidate], order: random.Random) -> list[Candidate]:
    ranked = sorted(candidates, key=lambda each: -each.confidence)
    sure = [each for each in ranked if each.confidence >= _SURE]
    order.shuffle(sure)
    return [*sure, *ranked[len(sure) : (len(ranked) + 1) // 2]]


def write_golden(
    folder: Path, settings: FinetuneSettings, candidates: Sequence[Candidate], *, has_base: bool
) -> tuple[str, dict[str, Any]]:
    """Write the file; return a sentence for the card and the manifest's section.

    Raises AdapterRefused if no candidate can be a golden example.
    """
    wanted = settings.evaluation
    chosen = choose_golden(candidates, wanted.golden, settings.training.seed)
    if not chosen:
        right = sum(each.right for each in candidates)
        base_right = sum(each.base_right for each in candidates)
        beside = f", the base {base_right}" if has_base else ""
        raise AdapterRefused(
            settings.name,
            GOLDEN_FILE,
            "cannot be filled",
            "lines that the adapter answers correctly and the base does not",
            f"none of {len(candidates)} held-out lines, of which it answers {right} "
            f"correctly{beside}; train for longer, or hold out more lines (`split.test`)",
        )
    lines = [json.dumps(each.line, ensure_ascii=False) + "\n" for each in chosen]
    (folder / GOLDEN_FILE).write_text("".join(lines), encoding="utf-8")
    kind = "held-out lines" if wanted.golden_file is None else "lines written as examples"
    base_right = sum(each.base_right for each in chosen)
    compared = f"; the base answers {base_right} of them correctly" if has_base else ""
    sentence = (
        f"Its {len(chosen)} golden examples are {kind} that it answers correctly{compared}. At "
        f"least {math.ceil(wanted.golden_accuracy * len(chosen))} must pass before it serves."
    )
    if settings.task == "classification":
        return sentence, {"file": GOLDEN_FILE, "min_accuracy": wanted.golden_accuracy}
    return sentence, generation_golden(settings).model_dump()


def generation_golden(settings: FinetuneSettings) -> GenerationGolden:
    """Golden section of a generation adapter's manifest."""
    evaluation = settings.evaluation
    return GenerationGolden(
        file=GOLDEN_FILE,
        match=evaluation.match,
        min_accuracy=evaluation.golden_accuracy,
        max_tokens=evaluation.max_tokens,
    )
