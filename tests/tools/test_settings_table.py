"""The table of settings explains every key."""

from tools.settings_table import settings_table


def test_every_key_is_explained() -> None:
    assert [row for row in settings_table().splitlines() if row.endswith("|  |")] == []


def test_nested_keys_defaults_and_entries_are_listed() -> None:
    rows = settings_table().splitlines()
    assert "| `http.port` | `8000` | Public port. |" in rows
    assert any(row.startswith("| `adapters[].source` | required |") for row in rows)
    assert any(row.startswith("| `slo.routes.<name>.ttft_ms` | `null` |") for row in rows)


def test_a_section_has_one_heading() -> None:
    headings = [line for line in settings_table().splitlines() if line.startswith("## ")]
    assert {"## http", "## adapters", "## limits"} <= set(headings)
    assert len(headings) == len(set(headings))
