"""The page of settings says what the code says."""

import pytest

from tests.docs.settings_table import BEGIN, END, PAGE, settings_table, with_table


def test_table_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run: python -m tests.docs.settings_table"


def test_every_key_is_explained() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_nested_keys_defaults_and_entries_of_lists_are_listed() -> None:
    rows = settings_table().splitlines()
    assert "| `http.port` | `8000` | Public port. |" in rows
    assert any(row.startswith("| `adapters[].source` | required |") for row in rows)


def test_the_text_around_the_table_is_kept() -> None:
    text = with_table(f"before\n{BEGIN}\nout of date\n{END}\nafter\n")
    assert text.startswith(f"before\n{BEGIN}\n| key ")
    assert text.endswith(f" |\n{END}\nafter\n")
    assert "out of date" not in text


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="settings: begin"):
        with_table(f"text\n{BEGIN}\n")
