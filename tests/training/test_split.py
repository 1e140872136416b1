"""The split: groups whole, duplicates gone, every part there."""

from collections import Counter

import pytest

from service.errors import ConfigurationError
from training.config import SplitSettings
from training.lines import CompletedLine, LabelledLine, Line
from training.split import PARTS, Split, split_lines


def lines(count: int, per_group: int = 5, labels: str = "ab") -> list[Line]:
    return [
        LabelledLine(
            text=f"text {number}",
            label=labels[number // per_group % len(labels)],
            group=f"{number // per_group}",
        )
        for number in range(count)
    ]


def texts(split: Split, part: str) -> set[str]:
    return {line.key for line in getattr(split, part)}


def test_no_group_is_on_two_sides() -> None:
    split = split_lines(lines(500), SplitSettings(), seed=3)
    seen = Counter(
        group for part in PARTS for group in {line.group for line in getattr(split, part)}
    )
    assert set(seen.values()) == {1}
    assert len(seen) == 100


def test_parts_have_their_shares_of_every_label() -> None:
    split = split_lines(lines(2000, 1), SplitSettings(), seed=3)
    assert split.sizes == {"train": 1500, "validation": 100, "calibration": 200, "test": 200}
    for part in PARTS:
        counts = Counter(line.labelled[0] for line in getattr(split, part))
        assert counts["a"] == counts["b"]


def test_the_seed_decides() -> None:
    shares = SplitSettings()
    one, same, other = (split_lines(lines(200), shares, seed) for seed in (1, 1, 2))
    assert texts(one, "test") == texts(same, "test") != texts(other, "test")


def test_duplicates_are_removed_and_counted() -> None:
    split = split_lines([*lines(200), *lines(50)], SplitSettings(), seed=0)
    assert split.duplicates == 50
    assert sum(split.sizes.values()) == 200
    assert len(set.union(*(texts(split, part) for part in PARTS))) == 200


def test_a_label_of_one_group_is_trained_on() -> None:
    rare = LabelledLine(text="rare", label="c", group="only")
    split = split_lines([*lines(200), rare], SplitSettings(), seed=0)
    assert rare in split.train


def test_every_stratum_is_trained_on_and_tested() -> None:
    drawn: list[Line] = [
        CompletedLine(prompt=f"p{i}", completion="c", group=f"{i // 2}", stratum="ab"[i % 40 >= 36])
        for i in range(400)
    ]
    split = split_lines(drawn, SplitSettings(calibration=0), seed=0)
    for part in ("train", "test"):
        counts = Counter(line.dealt_as for line in getattr(split, part))
        assert 0.08 < counts["b"] / counts.total() < 0.12


def test_a_stratum_of_one_group_is_trained_on() -> None:
    drawn = [CompletedLine(prompt=f"p{i}", completion="c") for i in range(200)]
    rare = CompletedLine(prompt="rare", completion="c", stratum="rare")
    assert rare in split_lines([*drawn, rare], SplitSettings(calibration=0), seed=0).train


def test_calibration_may_share_the_tests_groups_but_no_line() -> None:
    shares = SplitSettings(calibration_from_test=True)
    split = split_lines(lines(500), shares, seed=0)
    groups = {part: {line.group for line in getattr(split, part)} for part in PARTS}
    assert groups["calibration"] & groups["test"]
    assert not groups["train"] & (groups["calibration"] | groups["test"])
    assert not texts(split, "calibration") & texts(split, "test")


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="validation is empty: 2 groups of 10 different lines are too few"
    ):
        split_lines(lines(10), SplitSettings(), seed=0)
