"""Lines of tasks: the first that cannot be used is named; noise is the same at every run."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.lines import (
    CallsLine,
    ChoiceLine,
    CompletedLine,
    JsonLine,
    LabelledLine,
    Line,
    NamedLine,
    add_noise,
    read_lines,
)
from service.errors import ConfigurationError

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        (LabelledLine, {"text": "fine"}, "label: required"),
        (LabelledLine, {"text": "fine", "lable": "good", "label": "good"}, "did you mean 'label'"),
        (LabelledLine, {"text": " ", "label": "good"}, "text: must match pattern"),
        (ChoiceLine, {"question": "?", "choices": ["a", "b"], "answer": "c"}, "one of the choices"),
        (CompletedLine, {"completion": "yes"}, "needs one of prompt and messages"),
        (CompletedLine, {"prompt": "a", "messages": MESSAGES, "completion": "yes"}, "needs one of"),
        (JsonLine, {"prompt": "a", "completion": "{"}, "alternatives: must be JSON"),
        (JsonLine, {"prompt": "a", "completion": "1", "alternatives": ["{"]}, "must be JSON"),
        (
            CallsLine,
            {"prompt": "a", "completion": "<tool_call>\n{\n</tool_call>"},
            "a call is not JSON",
        ),
        (CompletedLine, {"prompt": "a", "completion": "b", "alternatives": [""]}, "alternatives"),
        (NamedLine, {"text": "nobody"}, "text: must match pattern"),
    ],
)
def test_a_line_that_cannot_be_used(
    tmp_path: Path, kind: type[Line], line: dict[str, Any], message: str
) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigurationError) as caught:
        read_lines(file, kind)
    assert "line 1: " in str(caught.value)
    assert message in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_lines(file, LabelledLine)
    file.write_text("")
    with pytest.raises(ConfigurationError, match=r"must hold 1\.\.10000 lines, got 0"):
        read_lines(file, LabelledLine)


def test_a_file_of_a_training_run_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"prompt": "a", "completion": "b", "group": "g", "stratum": "s"}\n')
    (line,) = read_lines(file, CompletedLine)
    assert (line.prompt, line.completion) == ("a", "b")


TEXT = "The waiter never came back, although the restaurant was nearly empty by then."


def test_typos_exchange_two_letters_in_one_word_of_five() -> None:
    changed = add_noise(TEXT, "typos")
    assert changed == add_noise(TEXT, "typos")
    assert sorted(changed) == sorted(TEXT)
    pairs = zip(TEXT.split(), changed.split(), strict=True)
    different = [(a, b) for a, b in pairs if a != b]
    assert 1 <= len(different) <= 2
    assert all(a[0] == b[0] and len(a) == len(b) for a, b in different)


@pytest.mark.parametrize("text", ["", "a bc def", "12345 6789"])
def test_a_text_without_long_words_has_no_typos(text: str) -> None:
    assert add_noise(text, "typos") == text


def test_case_and_spacing() -> None:
    assert add_noise("So it is", "case") == "SO IT IS"
    assert add_noise("So it is", "spacing") == " So  it  is"
