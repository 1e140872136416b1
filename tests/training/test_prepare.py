"""All lines are checked before anything is trained, and the split keeps groups whole."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from tests.training.conftest import films
from training.config import FinetuneSettings, SplitSettings
from training.lines import CompletedLine, LabelledLine, Line
from training.prepare import PARTS, Split, prepare, split_lines

Settings = Callable[..., FinetuneSettings]
GENERATION: dict[str, Any] = {
    "task": "generation", "prompt": None, "split": {"calibration": 0}
}  # fmt: skip
LONG = {"text": "bad " * 100, "label": "negative"}


def longer(part: str, settings: Settings, words: int) -> list[dict[str, Any]]:
    """The films, of which one that is in `part` has so many words more."""
    chosen = getattr(prepare(settings(films())).split, part)[0].text
    return [
        line | {"text": line["text"] + " bad" * words} if line["text"] == chosen else line
        for line in films()
    ]


def longest_text(lines: Sequence[Line]) -> int:
    return max(len(line.text) for line in lines if isinstance(line, LabelledLine))


@pytest.mark.parametrize("part", PARTS)
def test_an_over_long_line_of_any_part_is_refused(settings: Settings, part: str) -> None:
    lines = longer(part, settings, 100)
    number = 1 + next(n for n, line in enumerate(lines) if len(line["text"]) > 400)
    with pytest.raises(
        ConfigurationError,
        match=rf"^lines\.jsonl: line {number}: 1\d\d tokens .* data\.max_tokens 64; ",
    ):
        prepare(settings(lines, data={"max_tokens": 64}))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("policy", "dropped", "truncated", "left"), [("drop", 1, 0, 59), ("truncate", 0, 1, 60)]
)
def test_over_long_lines_of_any_part_are_dropped_or_cut_and_counted(
    settings: Settings, part: str, policy: str, dropped: int, truncated: int, left: int
) -> None:
    lines = longer(part, settings, 100)
    prepared = prepare(settings(lines, data={"max_tokens": 64, "over_long": policy}))
    assert (prepared.fitted.dropped, prepared.fitted.truncated) == (dropped, truncated)
    assert sum(prepared.split.sizes.values()) == left
    assert all(longest_text(getattr(prepared.split, part)) < 300 for part in PARTS)


def golden(tmp_path: Path, *lines: dict[str, Any]) -> dict[str, Any]:
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / "golden.jsonl").write_text(text)
    return {"golden_file": "golden.jsonl"}


def test_golden_lines_are_cut_like_the_others(settings: Settings, tmp_path: Path) -> None:
    own = golden(tmp_path, LONG)
    prepared = prepare(settings(evaluation=own, data={"max_tokens": 64, "over_long": "truncate"}))
    assert longest_text(prepared.golden) < 300
    assert prepared.fitted.truncated == 0, "the card counts the data's lines"


@pytest.mark.parametrize(
    ("line", "policy", "reason"),
    [
        ({"text": "x", "label": "positve"}, "refuse", "unknown label 'positve'; the labels are"),
        (LONG, "refuse", "1.. tokens with .*max_tokens 64"),
        (LONG, "drop", "1.. tokens; all of 1 lines have more"),
    ],
)
def test_a_golden_line_that_cannot_be_used_is_named(
    settings: Settings, tmp_path: Path, line: dict[str, Any], policy: str, reason: str
) -> None:
    wanted = settings(
        evaluation=golden(tmp_path, line), data={"max_tokens": 64, "over_long": policy}
    )
    with pytest.raises(ConfigurationError, match=rf"^golden\.jsonl: line 1: {reason}"):
        prepare(wanted)


@pytest.mark.parametrize("part", ["validation", "calibration", "test"])
@pytest.mark.parametrize(
    ("engine", "words", "limit"), [({"max_model_len": 128}, 150, 128), ({}, 300, 256)]
)
def test_a_line_that_the_engine_cannot_be_asked_is_named(
    settings: Settings, part: str, engine: dict[str, int], words: int, limit: int
) -> None:
    wanted = settings(
        longer(part, settings, words),
        data={"max_tokens": 1000},
        evaluation={"engine": engine},
    )
    with pytest.raises(
        ConfigurationError,
        match=rf"^lines\.jsonl: line \d+: \d+ tokens .* engine's context of {limit}",
    ):
        prepare(wanted)


def test_a_line_that_is_only_trained_on_may_be_longer(settings: Settings) -> None:
    lines = longer("train", settings, 300)
    assert len(prepare(settings(lines, data={"max_tokens": 1000})).split.train) > 20


def test_a_long_answer_must_fit_the_engines_context(settings: Settings) -> None:
    lines = [{"prompt": f"say {n}", "completion": "x"} for n in range(60)]
    fits = settings(lines, **GENERATION, evaluation={"max_tokens": 240})
    assert prepare(fits).split.test
    wanted = settings(lines, **GENERATION, evaluation={"max_tokens": 255})
    with pytest.raises(ConfigurationError, match=r"line \d+: \d+ tokens .* answer of 255 .* 256"):
        prepare(wanted)


def test_an_answer_that_is_to_be_json_is_checked(settings: Settings, tmp_path: Path) -> None:
    lines = [{"prompt": f"say {n}", "completion": '{"a": 1}'} for n in range(60)]
    wanted = settings(lines, **GENERATION, evaluation={"match": "json"})
    assert prepare(wanted).split.test
    own = golden(tmp_path, {"prompt": "say", "completion": "{a: 1}"})
    wanted = settings(lines, **GENERATION, evaluation=own | {"match": "json"})
    with pytest.raises(
        ConfigurationError, match=r"^golden\.jsonl: line 1: completion: must be JSON.*'\{a: 1\}'"
    ):
        prepare(wanted)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"positive": " good", "negative": " good"}, "labels: .*the same words twice"),
        ({"positive": " <|im_end|>", "negative": " bad"}, "labels: .*ends an answer"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(
    settings: Settings, labels: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        prepare(settings(labels=labels))


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


@pytest.mark.parametrize(("coverage", "warned"), [(0.95, True), (0.9, False)])
def test_too_few_lines_for_label_sets_are_told_before_the_training(
    settings: Settings, caplog: pytest.LogCaptureFixture, coverage: float, warned: bool
) -> None:
    prepared = prepare(settings(films(), evaluation={"coverage": coverage}))
    assert len(prepared.split.calibration) == 12
    told = "a coverage of 0.95 takes at least 19 lines for calibration, got 12"
    assert (told in caplog.text) is warned


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="validation is empty: 2 groups of 10 different lines are too few"
    ):
        split_lines(lines(10), SplitSettings(), seed=0)
