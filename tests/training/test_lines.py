"""Lines of data: an error names the line's file and number."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import ConfigurationError
from training.config import FinetuneSettings
from training.lines import CompletedLine, read_lines
from training.prepare import classification_task

Settings = Callable[..., FinetuneSettings]

GOOD = '{"text": "fine", "label": "positive"}\n'
GENERATION: dict[str, Any] = {
    "task": "generation", "prompt": None, "split": {"calibration": 0}
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "Invalid JSON"),
        ("", "Invalid JSON"),
        ('{"text": "fine"}', "label: required"),
        ('{"text": "fine", "label": 1}', "label: must be a valid string"),
        ('{"text": " ", "label": "positive"}', "text: must match"),
        ('{"text": "fine", "label": "positive", "score": 1}', "score: unknown key"),
        ('{"text": "fine", "label": "neutral"}', "unknown label 'neutral'; the labels are"),
        ('{"text": "\ud800", "label": "positive"}'.encode("utf-8", "replace").decode() + "}",
         "Invalid JSON"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(settings: Settings, line: str, reason: str) -> None:
    wanted = settings(
        f"{GOOD}{line}\n{GOOD}", labels={"positive": " positive", "negative": " negative"}
    )
    with pytest.raises(ConfigurationError, match=r"^lines\.jsonl: line 2: ") as refused:
        read_lines(wanted)
    assert reason in str(refused.value)


def test_a_file_without_lines_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"lines\.jsonl: holds no line"):
        read_lines(settings(""))


def test_a_missing_file_is_refused(settings: Settings) -> None:
    wanted = settings(data={"files": ["absent.jsonl"]})
    with pytest.raises(ConfigurationError, match=r"absent\.jsonl: cannot be read: No such file"):
        read_lines(wanted)


def test_a_line_of_over_a_mebibyte_is_refused(settings: Settings) -> None:
    long = f'{{"text": "{"x" * (1 << 20)}", "label": "positive"}}\n'
    with pytest.raises(ConfigurationError, match=r"line 2: 1048\d\d\d bytes; the limit is 1048576"):
        read_lines(settings(GOOD + long))


def test_one_class_only_is_refused(settings: Settings) -> None:
    wanted = settings(GOOD * 3)
    with pytest.raises(ConfigurationError, match=r"1 labels \(positive\); a classifier needs"):
        classification_task(wanted, read_lines(wanted))


def test_labels_are_spelled_as_the_template_wants_them(settings: Settings) -> None:
    wanted = settings()
    task = classification_task(wanted, read_lines(wanted))
    assert task is not None
    assert dict(task.labels) == {"negative": " negative", "positive": " positive"}


@pytest.mark.parametrize(
    "line",
    [
        '{"completion": "x"}',
        '{"prompt": "a", "messages": [], "completion": "x"}',
        f'{{"prompt": "{"a" * 32_769}", "completion": "x"}}',
    ],
    ids=("none", "two", "too long for a golden example"),
)
def test_an_answer_needs_one_question_of_a_usable_length(settings: Settings, line: str) -> None:
    with pytest.raises(ConfigurationError, match="line 1: "):
        read_lines(settings(f"{line}\n", **GENERATION))


def test_prompts_and_conversations_may_be_mixed(settings: Settings) -> None:
    lines = read_lines(
        settings(
            [
                {"prompt": "a", "completion": "x"},
                {"messages": [{"role": "user", "content": "a"}], "completion": "x", "group": "g"},
            ],
            **GENERATION,
        )
    )
    assert [type(line) for line in lines] == [CompletedLine, CompletedLine]
    assert lines[0].key != lines[1].key


def test_a_call_that_is_not_json_is_refused(settings: Settings) -> None:
    def line(call: str) -> str:
        return json.dumps({"prompt": "a", "completion": f"<tool_call>{call}</tool_call>"}) + "\n"

    options = GENERATION | {"evaluation": {"match": "tool_calls"}}
    fine = line('{"name": "f", "arguments": {}}')
    assert len(read_lines(settings(fine, **options))) == 1
    with pytest.raises(ConfigurationError, match="line 2: completion: must be JSON, because"):
        read_lines(settings(fine + line("{"), **options))
