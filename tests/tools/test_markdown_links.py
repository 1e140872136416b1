"""Links of a Markdown text are found and rewritten, those in code are not."""

from tools.markdown_links import rewritten, targets

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
