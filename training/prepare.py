"""Preparation of a run: its lines, none too long, split into training and held-out parts."""

import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError
from transformers import AutoConfig

from service.adapters.manifest import INPUT, LabelSet
from service.classification.conformal import examples_needed
from service.classification.frame import spell
from service.common.error_messages import problems
from service.errors import ConfigurationError
from training.config import FinetuneSettings, SplitSettings
from training.examples import Example, ExampleEncoder, HeadEncoder
from training.lines import LabelledLine, Line, MultiLabelledLine, label_names, read_file, read_lines

_log = logging.getLogger(__name__)
PARTS = ("train", "validation", "calibration", "test")


class LineEncoder(Protocol):
    """Makes the examples of a run from its lines."""

    def encode(self, lines: Sequence[Line]) -> list[Example]:
        """All examples of the lines."""

    def tokens(self, line: Line) -> int:
        """Tokens of the line's longest example, prompt and answer together."""

    def asked_tokens(self, line: Line) -> int:
        """Tokens of context needed to measure the line: its prompt and the longest answer."""

    def without_end(self, text: str, tokens: int) -> str:
        """The text shortened from its end by so many tokens; empty if it has no more."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Lines within data.max_tokens, and the number of lines that were dropped or shortened."""

    lines: Sequence[Line]
    dropped: int
    truncated: int


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of the split, and the number of duplicate lines that were removed."""

    train: Sequence[Line]
    validation: Sequence[Line]
    calibration: Sequence[Line]
    test: Sequence[Line]
    duplicates: int

    @property
    def sizes(self) -> dict[str, int]:
        """Lines in each part."""
        return {part: len(getattr(self, part)) for part in PARTS}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The split lines of a run, candidates for golden examples, and the label set if any.

    `fitted` are the data's lines before the split; `encoder` makes examples of lines.
    """

    split: Split
    golden: Sequence[Line]
    task: LabelSet | None
    fitted: Fitted
    encoder: LineEncoder


def prepare(settings: FinetuneSettings) -> Prepared:
    """Read, fit and split the lines; ConfigurationError for lines that cannot be used.

    It also finds faults that would appear only after the training, when the adapter is measured.
    """
    lines = read_lines(settings)
    task = classification_task(settings, lines)
    encoder = _line_encoder(settings, task)
    fitted = fit_lengths(lines, encoder, settings)
    split = split_lines(fitted.lines, settings.split, settings.training.seed)
    golden, asked = split.test, split.test
    file = settings.evaluation.golden_file
    if file is not None:
        own = read_file(settings, file, None if task is None else task.labels)
        golden = fit_lengths(own, encoder, settings).lines
        asked = [*asked, *golden]
    if task is not None:
        asked = [*split.validation, *split.calibration, *asked]
    check_context(asked, encoder, settings)
    _log.info(
        "%s: %s; %d duplicates removed, %d over-long lines dropped, %d cut",
        settings.name,
        ", ".join(f"{count} {part}" for part, count in split.sizes.items()),
        split.duplicates,
        fitted.dropped,
        fitted.truncated,
    )
    if task is not None:
        _warn_of_few(settings, len(split.calibration))
    return Prepared(split, golden, task, fitted, encoder)


def _warn_of_few(settings: FinetuneSettings, lines: int) -> None:
    coverage = settings.evaluation.coverage
    needed = examples_needed(coverage)
    if lines < needed:
        _log.warning(
            "%s: every label set will hold all labels: a coverage of %g takes at least %d lines "
            "for calibration, got %d; raise split.calibration, or add lines",
            settings.name,
            coverage,
            needed,
            lines,
        )


def _line_encoder(settings: FinetuneSettings, task: LabelSet | None) -> LineEncoder:
    if settings.head is not None and task is not None:
        return HeadEncoder(settings, task)
    return ExampleEncoder(settings, task)


def classification_task(settings: FinetuneSettings, lines: Sequence[Line]) -> LabelSet | None:
    """The labels and their words, or None for a run that does not classify.

    If the configuration has no `labels`, they are those of the lines, in alphabetical order, each
    spelled as a word after the template; a head has no template, so its labels are used unchanged.
    Raises ConfigurationError for lines of fewer than two labels (of an adapter with multi_label: of
    none), which teach nothing, and for labels that are invalid in a manifest.
    """
    if settings.task != "classification":
        return None
    found = label_names(lines)
    least = 1 if settings.multi_label and settings.head is None else 2
    if len(found) < least:
        raise ConfigurationError(
            f"data: the lines have {len(found)} labels ({', '.join(found) or 'none'}); a "
            f"classifier needs at least {least}"
        )
    words = settings.labels or {name: _spelled(name, settings) for name in found}
    try:
        return LabelSet(labels=words, multi_label=settings.multi_label)
    except ValidationError as error:
        problem = next(problems(error.errors(include_url=False)))
        raise ConfigurationError(f"labels: {problem.reason}") from error


def _spelled(name: str, settings: FinetuneSettings) -> str:
    if settings.prompt is None:
        return name
    return spell(name, settings.prompt.template.split(INPUT)[1])


def fit_lengths(lines: Sequence[Line], encoder: LineEncoder, settings: FinetuneSettings) -> Fitted:
    """The lines, with over-long ones dropped or cut by the policy of `data.over_long`.

    ConfigurationError for over-long lines under `refuse`, and when no line is left.
    """
    limit, policy = settings.data.max_tokens, settings.data.over_long
    kept: list[Line] = []
    over_long: list[tuple[Line, int]] = []
    for line in lines:
        tokens = encoder.tokens(line)
        if tokens <= limit:
            kept.append(line)
            continue
        over_long.append((line, tokens))
        if policy == "truncate":
            kept.append(_shortened(line, tokens, limit, encoder))
    count = len(over_long)
    if over_long and policy == "refuse":
        worst, tokens = max(over_long, key=lambda each: each[1])
        raise ConfigurationError(
            f"{worst.place}: {tokens} tokens with its prompt and answer, the longest of {count} of "
            f"{len(lines)} lines that have more than data.max_tokens {limit}; raise the limit or "
            "choose data.over_long"
        )
    if not kept:
        first, tokens = over_long[0]
        raise ConfigurationError(
            f"{first.place}: {tokens} tokens; all of {count} lines have more than data.max_tokens "
            f"{limit}, and data.over_long {policy} leaves none"
        )
    return Fitted(
        kept,
        dropped=count if policy == "drop" else 0,
        truncated=count if policy == "truncate" else 0,
    )


def _shortened(line: Line, tokens: int, limit: int, encoder: LineEncoder) -> Line:
    """A line with its text cut at the end so that its longest example fits."""
    assert isinstance(line, LabelledLine | MultiLabelledLine)
    cut = tokens - limit
    while text := encoder.without_end(line.text, cut):
        shorter = line.model_copy(update={"text": text})
        if encoder.tokens(shorter) <= limit:
            return shorter
        cut += 1  # the cut split a character, or changed tokens beside it
    raise ConfigurationError(
        f"{line.place}: data.max_tokens: {limit} leaves no room for a text beside the prompt"
    )


def check_context(lines: Iterable[Line], encoder: LineEncoder, settings: FinetuneSettings) -> None:
    """Raise ConfigurationError for a line too long for the engine that measures the adapter."""
    limit = _context(settings)
    answer = settings.evaluation.max_tokens
    for line in lines:
        tokens = encoder.asked_tokens(line)
        if tokens > limit:
            what, lower = (
                ("labels", f"data.max_tokens {settings.data.max_tokens}")
                if settings.task == "classification"
                else (f"answer of {answer}", f"evaluation.max_tokens {answer}")
            )
            raise ConfigurationError(
                f"{line.place}: {tokens} tokens with its prompt and {what} are more than the "
                f"engine's context of {limit}; lower {lower} or raise "
                "evaluation.engine.max_model_len"
            )


def _context(settings: FinetuneSettings) -> float:
    """Context length that the engine will have, in tokens: as configured, else the base's."""
    given = settings.evaluation.engine.get("max_model_len")
    if isinstance(given, int) and given > 0:
        return given
    try:
        config = AutoConfig.from_pretrained(settings.base.path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"base.path: cannot be loaded: {error}") from error
    made_for: float = getattr(config.get_text_config(), "max_position_embeddings", math.inf)
    return made_for


def split_lines(lines: Sequence[Line], shares: SplitSettings, seed: int) -> Split:
    """Divide the groups among the parts so that each part has its share of every label.

    A line without a group is a group by itself. Of lines with the same text only the first stays,
    so no text is in two parts. A group counts under its most frequent label (or stratum). A label's
    groups are shuffled. The first goes to training, and each other one to the part that is furthest
    below its share of the label's lines, so a label with very few groups is only trained on. With
    `calibration_from_test` the lines of the test's groups are divided between calibration and test
    line by line. Raises ConfigurationError for a part that is empty.
    """
    kept = list({line.key: line for line in reversed(lines)}.values())[::-1]
    groups: dict[str, list[Line]] = defaultdict(list)
    for number, line in enumerate(kept):
        groups[f"group {line.group}" if line.group is not None else f"line {number}"].append(line)
    by_label: dict[str, list[str]] = defaultdict(list)
    for name, members in groups.items():
        counts = Counter(line.dealt_as for line in members)
        by_label[counts.most_common(1)[0][0]].append(name)
    order = random.Random(seed)
    parts: dict[str, list[Line]] = {part: [] for part in PARTS}
    for label in sorted(by_label):
        names = by_label[label]
        order.shuffle(names)
        _deal([groups[name] for name in names], _shares(shares), parts)
    if shares.calibration_from_test:
        _deal_rows(parts, shares, order)
    for part in PARTS:
        order.shuffle(parts[part])
        if not parts[part] and (part != "calibration" or shares.calibration):
            raise ConfigurationError(
                f"split: {part} is empty: {len(groups)} groups of {len(kept)} different lines "
                f"are too few for shares of {shares.validation:g}, {shares.calibration:g} and "
                f"{shares.test:g}"
            )
    return Split(**parts, duplicates=len(lines) - len(kept))


def _shares(shares: SplitSettings) -> dict[str, float]:
    held = {"validation": shares.validation, "test": shares.test}
    if shares.calibration_from_test:
        held["test"] += shares.calibration
    else:
        held["calibration"] = shares.calibration
    return {"train": 1 - sum(held.values())} | held


def _deal(
    groups: Sequence[Sequence[Line]], shares: dict[str, float], parts: dict[str, list[Line]]
) -> None:
    lacking = {part: share * sum(map(len, groups)) for part, share in shares.items()}
    for number, members in enumerate(groups):
        # A label that training never sees cannot be learnt.
        part = "train" if number == 0 else max(lacking, key=lambda each: lacking[each])
        parts[part].extend(members)
        lacking[part] -= len(members)


def _deal_rows(parts: dict[str, list[Line]], shares: SplitSettings, order: random.Random) -> None:
    held = parts["test"]
    order.shuffle(held)
    share = shares.calibration / (shares.calibration + shares.test)
    count = round(len(held) * share)
    parts["calibration"], parts["test"] = held[:count], held[count:]
