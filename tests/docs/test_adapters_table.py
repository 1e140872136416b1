"""The page on fine-tuning says what the manifests say."""

from tests.docs.adapters_table import PAGE, with_table


def test_table_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run: python -m tests.docs.adapters_table"
    assert "| `sentiment` | " in page
