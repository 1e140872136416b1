"""Split of lines into a training part and held-out parts."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import ConfigurationError
from training.config import SplitSettings
from training.lines import Line

PARTS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """The parts, and the number of lines removed because another line has their text."""

    train: Sequence[Line]
    validation: Sequence[Line]
    calibration: Sequence[Line]
    test: Sequence[Line]
    duplicates: int

    @property
    def sizes(self) -> dict[str, int]:
        """Lines in each part."""
        return {part: len(getattr(self, part)) for part in PARTS}


def split_lines(lines: Sequence[Line], shares: SplitSettings, seed: int) -> Split:
    """Divide the groups among the parts so that each part has its share of every label.

    A line without a group is a group by itself. Of lines with the same text only the first stays,
    so no text is in two parts. A group counts under its most frequent label (or stratum). A label's
    groups are shuffled; each goes to the part that lacks most of its share of the label's lines,
    the first to training, so a label of very few groups is only trained on. With
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
