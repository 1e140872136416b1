"""The list of settings explains every key."""

import re

from tools.settings_table import settings_list


def test_every_key_is_explained() -> None:
    assert re.findall(r"^.*:\n(?!  )", settings_list(), re.MULTILINE) == []


def test_nested_keys_defaults_and_entries_are_listed() -> None:
    lines = settings_list().splitlines()
    assert "- `http.port` (`8000`): Public port." in lines
    assert any(line.startswith("- `adapters[].source` (required): ") for line in lines)
    assert any(line.startswith("- `slo.routes.<name>.ttft_ms`: ") for line in lines)


def test_a_section_has_one_heading() -> None:
    headings = [line for line in settings_list().splitlines() if line.startswith("## ")]
    assert {"## http", "## adapters", "## limits"} <= set(headings)
    assert len(headings) == len(set(headings))
