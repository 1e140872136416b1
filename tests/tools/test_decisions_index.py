"""The index of the decisions is complete, and takes no page without its number."""

from pathlib import Path

import pytest

from tools import decisions_index
from tools.decisions_index import FOLDER, PAGE, page


def test_every_decision_stands_in_the_index_once() -> None:
    named = [line.partition("](")[2].partition(")")[0] for line in page().splitlines()]
    names = sorted(file.name for file in FOLDER.iterdir() if file != PAGE)
    assert len(names) > 1
    assert [name for name in named if name] == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("without-a-number.md", "# 1. Title\n\nStatus: accepted\n"),
        ("0002-not-the-next.md", "# 2. Title\n\nStatus: accepted\n"),
        ("0001-other-number.md", "# 2. Title\n\nStatus: accepted\n"),
        ("0001-no-status.md", "# 1. Title\n\n## Context\n"),
    ],
)
def test_a_page_that_is_not_the_next_decision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setattr(decisions_index, "FOLDER", tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: expected the name 0001-"):
        page()
