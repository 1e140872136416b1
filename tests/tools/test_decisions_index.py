"""The index of the decisions is complete, and old numbers lead to the pages that hold them now."""

import json
from pathlib import Path

import pytest

from tools import decisions_index, moved_pages
from tools.decisions_index import FOLDER, PAGE, page
from tools.markdown_pages import targets

DECISION = "# {}. Title\n\nStatus: accepted\n"


def test_every_decision_stands_in_the_index() -> None:
    names = {file.name for file in FOLDER.iterdir() if file != PAGE}
    assert len(names) > 1
    assert set(targets(page())) == names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of decisions; the first two were merged into the third."""
    table = {f"decisions/{old}.md": "decisions/0003-c.md" for old in ("0001-a", "0002-b", "0003-a")}
    (tmp_path / "moved.json").write_text(json.dumps(table))
    monkeypatch.setattr(moved_pages, "FILE", tmp_path / "moved.json")
    monkeypatch.setattr(decisions_index, "FOLDER", tmp_path)
    (tmp_path / "0003-c.md").write_text(DECISION.format(3))
    return tmp_path


def test_merged_numbers_stand_beside_their_page(folder: Path) -> None:
    (folder / "0004-d.md").write_text(DECISION.format(4))
    assert page().endswith("- 3. [Title](0003-c.md) (1, 2)\n- 4. [Title](0004-d.md)\n")


def test_a_number_that_is_left_out_is_refused(folder: Path) -> None:
    (folder / "0005-e.md").write_text(DECISION.format(5))
    with pytest.raises(ValueError, match="no decision has the number 0004"):
        page()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("without-a-number.md", DECISION.format(4)),
        ("0004-other-number.md", DECISION.format(5)),
        ("0004-no-status.md", "# 4. Title\n\n## Context\n"),
    ],
)
def test_a_page_that_is_no_decision_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: expected the name NNNN-"):
        page()
