"""Links outside of code are found and rewritten, generated parts replaced, and the rest is kept."""

import pytest

from tools.markdown_pages import replaced, rewritten, targets

PAGE = """
A [page](a.md), a [`name` in code](b.md#part) and ![a picture](c.png).

```text
[not](one.md)
```

`[nor](this.md)`, but [[this] one](d.md).
"""


def test_links_are_found_where_they_are_no_code() -> None:
    assert list(targets(PAGE)) == ["a.md", "b.md#part", "c.png", "d.md"]


def test_only_links_are_rewritten() -> None:
    changed = rewritten(PAGE, lambda label, target: f"<{label}|{target}>")
    assert "<`name` in code|b.md#part>" in changed
    assert "!<a picture|c.png>" in changed
    assert "[not](one.md)" in changed
    assert rewritten(PAGE, lambda label, target: f"[{label}]({target})") == PAGE


def test_the_text_around_the_generated_one_is_kept() -> None:
    page = "before\n<!-- a: begin -->\nout of date\n<!-- a: end -->\nafter\n"
    expected = "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n"
    assert replaced(page, "a", "new") == expected


@pytest.mark.parametrize("page", ["text", "text\n<!-- a: begin -->\n"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="a: begin"):
        replaced(page, "a", "new")
