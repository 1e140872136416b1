"""A part of a page is replaced, and the rest is kept."""

import pytest

from tools.marked import replaced


def test_the_text_around_the_generated_one_is_kept() -> None:
    page = "before\n<!-- a: begin -->\nout of date\n<!-- a: end -->\nafter\n"
    expected = "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n"
    assert replaced(page, "a", "new") == expected


@pytest.mark.parametrize("page", ["text", "text\n<!-- a: begin -->\n"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="a: begin"):
        replaced(page, "a", "new")
